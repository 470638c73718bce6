"""compile_sampler: one object that samples, completes and scores with a model, by the engine of your choice."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor

from genfast.compiler.plan import Plan
from genfast.compiler.program import Program, structure
from genfast.compiler.target import ask_model
from genfast.errors import GenfastError, NotSupported
from genfast.likelihoods import check_images
from genfast.sampling import incremental
from genfast.sampling.engines import LOOPS, check_options, images_at_a_time, preferred
from genfast.sampling.incremental import Compiled
from genfast.sampling.programs import Programs
from genfast.sampling.task import (
    CausalModel,
    Given,
    OnRow,
    Options,
    Stats,
    Task,
    check_conditions,
    check_model,
    device_of,
    evaluating,
    finish,
    in_place,
    nothing_known,
    order_of,
    prepare,
    shape_of,
    tensors_of,
)


def compile_sampler(
    model: CausalModel,
    engine: str = "auto",
    threads: int | None = None,
    precision: str = "float32",
    condition: Given = None,
) -> "Sampler":
    """A sampler for a causal model, exact: every engine draws the naive loop's images from the same seed.

    engine: "naive" (the loop, one forward pass per sub-pixel); "jacobi" (fixed-point iteration, several times fewer
    passes); "eager" (each activation computed once, in PyTorch); "cpu" (the same in C++: for less than one forward
    pass); for a model on a GPU "triton" (the same by launches recorded once in CUDA graphs) or "cuda" (in one launch of
    one kernel); no GPU has run either yet; or "auto": for a model on the CPU "cpu", for one on a GPU "triton" if what
    it computes agrees with a forward pass, and where these cannot run "jacobi": ``sampler.reason`` says why.
    threads: for the cpu engine; default torch.get_num_threads().
    precision: "float32", or "bfloat16" for the incremental engines: the factors of matrix products are rounded to
    bfloat16, everything else stays as it is. Another distribution, close to the model's; ``log_prob`` is exact for it.
    Faster than float32 on the cpu engine where the machine has AMX (`genfast info`). "tf32", for the triton engine:
    factors are rounded to TF32.
    condition: an example, needed only if the model is conditional and has neither num_classes nor condition_dim.

    The loops run the model as PyTorch runs it, which on a GPU rounds the factors of convolutions to TF32: they draw
    what the other engines draw in float32 once ``torch.backends.cudnn.conv.fp32_precision = "ieee"``.

    Raises NotCausal, naming the first layer that looks ahead; NotSupported, naming the operator and the layer, if an
    incremental engine was asked for by name and cannot take the model; GenfastError for an unknown engine, or a model
    that does not say what its images and its likelihood are.
    """
    check_model(model)
    check_options(engine, threads, precision)
    return Sampler(model, engine, threads or torch.get_num_threads(), condition, precision)


class Sampler:
    """Samples, completes and scores. Made by ``compile_sampler``.

    engine: the name of the engine that runs; reason: why "auto" did not take the fastest, or "".
    stats: what the last ``sample``, ``complete`` or ``stream`` cost.
    last_log_prob: ln P of the images it drew, nats, float64 [n], added up while they were drawn (incremental engines;
    None for the loops). Equal to ``log_prob`` of these images, to the bit on the cpu, triton and cuda engines.

    Work goes in chunks of ``batch_size`` images, which bounds the memory. On these three the images do not depend on
    it, to the bit. On the others they may where a uniform falls on the edge between two levels to within the rounding
    of the network's output: a library's matrix product may round differently over another batch size.

    The model's weights may change: the sampler notices, and compiles again.
    """

    def __init__(
        self,
        model: CausalModel,
        engine: str,
        threads: int,
        condition: Given = None,
        precision: str = "float32",
    ) -> None:
        self.model = model
        self.threads = threads
        self.precision = precision
        self.reason = ""
        self.last_log_prob: Tensor | None = None
        wanted = preferred(model, precision) if engine == "auto" else engine
        self._compiled = Programs(model, wanted, threads, precision)
        examples = tensors_of(model, condition)
        self.engine = self._choose(engine, wanted, examples or example_conditions(model))
        self.stats = Stats(engine=self.engine)

    def __repr__(self) -> str:
        precision = "" if self.precision == "float32" else f", precision={self.precision!r}"
        return f"Sampler({type(self.model).__name__}, engine={self.engine!r}{precision})"

    def _choose(self, engine: str, wanted: str, conditions: tuple[Tensor, ...]) -> str:
        """The engine that runs. wanted: the one to try first."""
        if engine in LOOPS:
            return engine
        self.reason = incremental.why_not(wanted, self.model)
        if self.reason and engine != "auto":
            raise NotSupported(f"The {engine} engine cannot run this model: {self.reason}.")
        if not self.reason:
            self.engine = wanted
            try:
                compiled = self._compiled.of(conditions)
                if engine == "auto" and wanted == "triton":
                    self.reason = self._try_out(compiled, conditions)
            except NotSupported as error:
                if engine != "auto":
                    raise
                self.reason = str(error)
            if not self.reason:
                return wanted
        if self.precision != "float32":
            why = self.reason.rstrip(".")
            raise NotSupported(
                f"auto has only the {wanted} engine for {self.precision}, and it cannot run this model: {why}."
            )
        self._compiled.clear()
        return "jacobi"

    def _try_out(self, compiled: Compiled, conditions: tuple[Tensor, ...]) -> str:
        """Empty if an engine that no GPU has run gives what the model gives, or else why not to take it."""
        try:
            if incremental.agrees(self.model, compiled, conditions, self.precision):
                return ""
        except GenfastError:
            raise
        except Exception as error:  # whatever a compiler or a driver may say
            return f"the {self.engine} engine does not run here ({type(error).__name__}: {str(error).strip()[:200]})"
        return f"the {self.engine} engine does not agree with a forward pass of the model"

    # ---- what an incremental engine runs ----

    @property
    def plan(self) -> Plan:
        """The scheduled program. Raises GenfastError for the loops, which have none."""
        made = self._compiled.values()
        if not made:
            why = f": {self.reason}" if self.reason else ""
            raise GenfastError(f"The {self.engine} engine runs the model itself and has no program{why}.")
        return made[0].plan

    @property
    def program(self) -> Program:
        """What is computed; ``print`` it. Raises GenfastError for the loops, which have none."""
        return self.plan.program

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> str:
        """Loads weights into the model, and says what that took: "replaced" (the same steps, other numbers) or
        "recompiled" (other weights are zero, so other things are read)."""
        before = [structure(c.plan.program) for c in self._compiled.values()]
        self.model.load_state_dict(state, strict=strict)  # type: ignore[attr-defined]
        if self.engine in LOOPS:
            return "replaced"
        self._compiled.refresh()
        after = [structure(c.plan.program) for c in self._compiled.values()]
        return "replaced" if before == after else "recompiled"

    # ---- what users call ----

    def sample(
        self,
        n: int,
        seed: int = 0,
        first: int = 0,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        condition: Given = None,
        progress: bool = False,
        on_row: OnRow | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Draws the images number first .. first + n - 1 of the seed.  # levels [n, C, H, W]

        uint8, or int64 where there are more than 256 levels. temperature, top_k, top_p: see Likelihood.draw.
        condition: [n, ...], handed to the model, or several of them.
        on_row: called after each finished row of a chunk with a copy of all n images; what is not drawn yet is zero.

        Raises GenfastError for bad input, before any work.
        """
        images, known = nothing_known(self.model, n)
        return self.complete(
            images, known, seed, first, temperature, top_k, top_p, condition, progress, on_row, batch_size
        )

    def complete(
        self,
        images: Tensor,
        known: Tensor,
        seed: int = 0,
        first: int = 0,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        condition: Given = None,
        progress: bool = False,
        on_row: OnRow | None = None,
        batch_size: int | None = None,
    ) -> Tensor:
        """Draws the unknown pixels given everything earlier in raster order.  # levels [n, C, H, W]

        images: levels [n, C, H, W] (uint8 or int64). known: bool [H, W] or [n, 1, H, W]; known pixels come back
        untouched. The rest is as in ``sample``.

        Raises GenfastError for bad input, before any work.
        """
        size = self._batch_size(batch_size)
        stats = Stats(engine=self.engine)
        whole = prepare(
            self.model, images, known, seed=seed, first=first, temperature=temperature, top_k=top_k, top_p=top_p,
            condition=condition, progress=progress, on_row=on_row, stats=stats,
        )  # fmt: skip
        out = whole.images
        rows, log_probs = self._rows(whole.conditions, out)
        for i in range(0, len(out), size):
            show = None if whole.on_row is None else _show_all(out, slice(i, i + size), whole.on_row)
            finish(whole.part(i, i + size, show), partial(rows, i))
        self.stats = stats
        self.last_log_prob = None if log_probs is None else incremental.total(log_probs)
        return in_place(self.model, out)

    def stream(self, n: int, **options: Unpack[Options]) -> Iterator[Tensor]:
        """As ``sample``, in one chunk, but gives each row as soon as it is drawn.  # H times [n, C, W]

        ``torch.stack(list(sampler.stream(n)), 2)`` is ``sampler.sample(n)``. Stop reading to stop drawing.
        Raises GenfastError for bad input at the first row.
        """
        images, known = nothing_known(self.model, n)
        options["stats"] = stats = options.get("stats") or Stats(engine=self.engine)
        task = prepare(self.model, images, known, **options)
        watched = task.part(0, n, task.on_row or (lambda images: None))
        rows, log_probs = self._rows(task.conditions, task.images)
        order, shown = order_of(self.model), 0
        for y in rows(0, watched):
            done = y + 1 if order is None else order.rows_done(y)
            for row in range(shown, done):
                yield in_place(self.model, task.images)[:, :, row].clone()
            shown = done
        self.stats = stats
        self.last_log_prob = None if log_probs is None else incremental.total(log_probs)

    def log_prob(self, images: Tensor, condition: Given = None, batch_size: int | None = None) -> Tensor:
        """ln P(image), in nats per image, added up in float64.  # float64 [n], on the model's device

        Incremental engines compute it step by step, with the arithmetic of sampling; the loops in one forward pass.
        Raises GenfastError for bad input, before any work, and for a network whose output is NaN.
        """
        likelihood = self.model.likelihood

        def forward(part: Tensor, *given: Tensor) -> Tensor:
            params = ask_model(self.model, part, *given)
            return likelihood.log_prob_map(params, part).double().flatten(1).sum(1)

        def stepwise(compiled: Compiled, part: Tensor, *given: Tensor) -> Tensor:
            log_probs = incremental.score(compiled, likelihood, part, given, None)[0]
            if log_probs is not None:
                return incremental.total(log_probs)
            params = incremental.score(compiled, likelihood, part, given, incremental.dtype_of(self.model))[1]
            assert params is not None
            return incremental.total(likelihood.log_prob_map(params, part).double().flatten(2))

        nats = self._score(images, condition, batch_size, forward, stepwise)
        total = torch.cat([torch.zeros(0, dtype=torch.float64, device=device_of(self.model)), *nats])
        if bool(total.isnan().any()):
            raise GenfastError(
                "The network's output holds NaN: check that the weights are finite and that training did not diverge."
            )
        return total

    def logits(self, images: Tensor, condition: Given = None, batch_size: int | None = None) -> Tensor:
        """The likelihood's parameters for whole images.  # [n, ..., C, H, W]

        Incremental engines compute them step by step, each when its pixel would be drawn; they equal the model's within
        rounding. Raises GenfastError for bad input, before any work, and for an empty batch.
        """

        def stepwise(compiled: Compiled, part: Tensor, *given: Tensor) -> Tensor:
            dtype = incremental.dtype_of(self.model)
            params = incremental.score(compiled, self.model.likelihood, part, given, dtype)[1]
            assert params is not None
            return params

        parts = self._score(
            images, condition, batch_size, lambda part, *given: ask_model(self.model, part, *given), stepwise
        )
        if not parts:
            raise GenfastError("There is no image to look at: the batch is empty.")
        return in_place(self.model, torch.cat(parts))

    def profile(self, n: int, condition: Given = None) -> dict[str, float]:
        """Where the cpu engine's time goes when it draws n images, in seconds added up over its threads.

        "gather" (taps copied together), "gemm" (matrix products), "body" (elementwise), "store", "draws". Raises
        GenfastError for other engines, which do not measure themselves.
        """
        if self.engine != "cpu":
            raise GenfastError(f"The {self.engine} engine does not measure itself; the cpu engine does.")
        images, known = nothing_known(self.model, n)
        task = prepare(self.model, images, known, condition=condition)
        return incremental.profile(task, self._compiled.of(task.conditions))

    # ---- how ----

    def _batch_size(self, batch_size: int | None) -> int:
        if batch_size is None:
            return images_at_a_time(self.engine, self.threads, device_of(self.model))
        check_batch_size(batch_size)
        return batch_size

    def _rows(
        self, conditions: tuple[Tensor, ...], images: Tensor
    ) -> tuple[Callable[..., Iterator[int]], Tensor | None]:
        """(rows(i, task) for the chunk that starts at image i, where the log-probabilities of all images will be)."""
        if self.engine in LOOPS:
            return lambda i, task: LOOPS[self.engine](task), None
        compiled = self._compiled.of(conditions)
        log_probs = incremental.room_for_log_probs(self.model.likelihood, images)

        def rows(i: int, task: Task) -> Iterator[int]:
            return incremental.rows(task, compiled, None if log_probs is None else log_probs[i : i + len(task.images)])

        return rows, log_probs

    def _score(
        self,
        images: Tensor,
        condition: Given,
        batch_size: int | None,
        forward: Callable[..., Tensor],
        stepwise: Callable[..., Tensor],
    ) -> list[Tensor]:
        """The result for every chunk of images, after a check of them all."""
        size = self._batch_size(batch_size)
        check_images(images, shape_of(self.model), self.model.levels)
        device, order = device_of(self.model), order_of(self.model)
        images = (images if order is None else order.into(images)).to(device)
        conditions = tuple(c.to(device) for c in check_conditions(self.model, condition, len(images)))
        whole = self.engine in LOOPS or not len(images)
        function = forward if whole else partial(stepwise, self._compiled.of(conditions))
        parts = []
        with evaluating(self.model):
            for i in range(0, len(images), size):
                parts.append(function(images[i : i + size], *(c[i : i + size] for c in conditions)))
        return parts


def example_conditions(model: CausalModel) -> tuple[Tensor, ...]:
    """Conditions as a model takes them, to compile with: a model of ours, or one that has kept an example."""
    examples: tuple[Tensor, ...] | None = getattr(model, "example_conditions", None)
    if examples is not None:
        return examples
    device = device_of(model)
    classes, width = getattr(model, "num_classes", None), getattr(model, "condition_dim", None)
    if classes is not None:
        return (torch.arange(2, device=device) % classes,)
    if width is not None:
        return (torch.linspace(-1, 1, 2 * width, device=device).reshape(2, width),)
    return ()


def check_batch_size(batch_size: int) -> None:
    """Raises GenfastError unless batch_size is a whole number, at least 1."""
    if not isinstance(batch_size, int) or batch_size < 1:
        raise GenfastError(f"The batch size must be a whole number, at least 1, not {batch_size}.")


def _show_all(images: Tensor, chunk: slice, on_row: OnRow) -> OnRow:
    """Puts a chunk's rows into a copy of all the images before they are shown."""

    def show(part: Tensor) -> None:
        everything = images.clone()
        everything[chunk] = part
        on_row(everything)

    return show
