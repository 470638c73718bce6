"""The training loop: steps, and what a run says and keeps of them, resumable to the bit."""

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from genfast.data import ImageSet
from genfast.errors import GenfastError
from genfast.models import ImageConfig, Model
from genfast.training.checkpoint import (
    find_checkpoint,
    model_to_dict,
    read_model,
    read_state,
    read_tensors,
    write_checkpoint,
)
from genfast.training.evaluate import check_match, gather_metrics, image_scores
from genfast.training.learner import Learner
from genfast.training.metrics import Metrics, is_density, logged
from genfast.training.pictures import draw_pictures
from genfast.training.players import read_moments, write_moments
from genfast.training.recipe import DataConfig, TrainConfig
from genfast.training.run import RunFolder


@dataclass(frozen=True)
class TrainResult:
    """What a finished run leaves: the model with the weights that evaluation uses, and its last held-out metrics."""

    model: Model
    held_out: Metrics | None
    step: int


def train(
    model_name: str,
    model_config: ImageConfig,
    data: ImageSet,
    train_config: TrainConfig,
    run_dir: str | Path,
    resume: bool = False,
    *,
    overwrite: bool = False,
    held_out: ImageSet | None = None,
    source: DataConfig | None = None,
    initial: Model | None = None,
    progress: bool = False,
    report: Callable[[str], None] | None = None,
) -> TrainResult:
    """Train a model on ``data`` and keep the run in ``run_dir``.

    The loss is the model's own: for a density, the mean negative log-likelihood (or its bound) in bits/dim. held_out:
    images to watch, never trained on. source: how ``data`` was loaded, for ``genfast evaluate`` later. initial: a model
    of the same settings to start from, instead of random weights. resume: continue the run in ``run_dir``; on one
    machine with one thread count it continues as if it had never stopped. progress: a progress bar on stderr (on a
    terminal). report: called with one line per evaluation. Seeds PyTorch's global generator, flushes denormal numbers
    to zero and, if asked, sets the thread count.

    Under ``accelerate launch`` each process takes its share of every batch and the gradient is that of the whole batch.

    Raises GenfastError for settings that do not fit together, a run folder that is in use, or a loss that is not a
    number (the last checkpoint from before stays).
    """
    run = _Run(model_name, model_config, data, train_config, Path(run_dir), held_out, initial, progress, report)
    return run.train(resume, overwrite, source)


class _Run:
    """One call of ``train``: a learner, and the folder that keeps what it does."""

    def __init__(
        self,
        model_name: str,
        model_config: ImageConfig,
        data: ImageSet,
        config: TrainConfig,
        run_dir: Path,
        held_out: ImageSet | None,
        initial: Model | None,
        progress: bool,
        report: Callable[[str], None] | None,
    ) -> None:
        self.config, self.data, self.progress = config, data, progress
        if held_out is not None and config.eval_images:
            held_out = held_out.subset(config.eval_images)
        self.held_out = held_out
        self.folder = RunFolder(run_dir)
        self.learner = learner = Learner(model_name, model_config, data, config, initial)
        self.model, self.average = learner.model, learner.average
        self.order, self.window = learner.order, learner.window
        self.accelerator = learner.accelerator
        self.is_main = self.accelerator.is_main_process
        self.report = report if report is not None and self.is_main else lambda line: None
        if held_out is not None:
            check_match(self.model, held_out)
        self.given = initial is not None
        self.model_name = model_name
        self.saved_at = -1
        self.seconds = 0.0  # spent training, over all sessions of the run
        self.last_metrics: Metrics | None = None
        self.evaluated_at = -1

    @property
    def step(self) -> int:
        return self.learner.step

    # ---- the run ----

    def train(self, resume: bool, overwrite: bool, source: DataConfig | None) -> TrainResult:
        try:
            self._open(resume, overwrite, source)
            return self._loop()
        finally:
            self.folder.unlock()

    def _loop(self) -> TrainResult:
        writer = _tensorboard(self.folder.path, self.step) if self.config.tensorboard and self.is_main else None
        config, epoch_length = self.config, self.order.steps_per_epoch
        started, saved = time.monotonic() - self.seconds, time.monotonic()
        bar = tqdm(
            total=self.learner.total,
            initial=self.step,
            unit="step",
            desc="train",
            disable=None if self.progress and self.is_main else True,
        )
        self.model.train()
        while self.step < self.learner.total:
            rate = self.learner.advance()
            self.seconds = time.monotonic() - started
            bar.update()
            last = self.step == self.learner.total
            epoch_end = self.step % epoch_length == 0
            epochs = self.step // epoch_length
            if self.step % config.log_every == 0 or last:
                self._log_training(rate, writer)
                bar.set_postfix_str(f"loss {self.window.loss:.4f}", refresh=False)
            if last or (epoch_end and config.eval_every and epochs % config.eval_every == 0):
                self._evaluate(writer)
            waited = time.monotonic() - saved
            due_steps = config.checkpoint_every_steps and self.step % config.checkpoint_every_steps == 0
            if last or due_steps or 0 < config.checkpoint_every_seconds <= waited:
                self._save()
                saved = time.monotonic()
            if last or (epoch_end and config.sample_every and epochs % config.sample_every == 0):
                self._draw_pictures(epochs)
        bar.close()
        if self.evaluated_at != self.step:  # a finished run was resumed
            self._measure()
        if writer is not None:
            writer.close()
        self.accelerator.wait_for_everyone()
        return TrainResult(self.average.model, self.last_metrics, self.step)

    def _read(self) -> None:
        """Fetch and check what the last steps said; before anything is written that they lead to."""
        try:
            # Overflown float16 gradients are expected: the gradient scaler skips the step and shrinks its scale.
            self.window.read(overflow=self.config.amp == "fp16")
        except GenfastError as error:
            raise GenfastError(
                f"{error}: lower the learning rate (at most {self.config.learning_rate:g}), or clip the gradient at "
                f"less than {self.config.grad_clip or math.inf:g}; the checkpoint of step {self.saved_at} is kept in "
                f"{self.folder.path}."
            ) from None

    # ---- what it says ----

    def _log_training(self, rate: float, writer: Any) -> None:
        self._read()
        means, norms = self.window.close()
        line = {
            "step": self.step,
            "epoch": self.step / self.order.steps_per_epoch,
            **logged("train", means, self.data.image_shape),
            **{f"{name}_gradient_norm" if name else "gradient_norm": norm for name, norm in norms.items()},
            "learning_rate": rate,
            "seconds": round(self.seconds, 3),
        }
        self._write(line, writer)

    def _measure(self) -> Metrics | None:
        """Held-out metrics of the averaged weights; every process takes its share of the images."""
        criterion = self.model.criterion
        if self.held_out is None or criterion is None:
            return None
        from accelerate.utils import gather_object

        share = np.array_split(np.arange(len(self.held_out)), self.accelerator.num_processes)
        mine = share[self.accelerator.process_index]
        batch = max(self.config.batch_size, 64)
        parts = gather_object([image_scores(self.average.model, self.held_out, mine, batch)])
        scores = {name: np.concatenate([part[name] for part in parts if part]) for name in parts[0]}
        if not np.isfinite(scores[criterion]).all():
            raise GenfastError(
                f"The score of a held-out image was not a finite number at step {self.step}: lower the learning "
                f"rate; the checkpoint of step {self.saved_at} is kept in {self.folder.path}."
            )
        self.last_metrics = gather_metrics(self.average.model, scores, self.held_out)
        self.evaluated_at = self.step
        return self.last_metrics

    def _evaluate(self, writer: Any) -> None:
        self._read()
        metrics = self._measure()
        if metrics is not None:
            line = {
                "step": self.step,
                "epoch": self.step / self.order.steps_per_epoch,
                "held_out": metrics.title,
                **logged("held_out", {name: mean.value for name, mean in metrics.means.items()}, metrics.image_shape),
                f"held_out_{metrics.criterion}_standard_error": None if metrics.images == 1 else metrics.standard_error,
                "seconds": round(self.seconds, 3),
            }
            self._write(line, writer)
            self.report(
                f"epoch {self.step / self.order.steps_per_epoch:.4g}, step {self.step}: held out {metrics.short()}, "
                f"{self.seconds:.0f} s"
            )
        if self.is_main:
            criterion = self.model.criterion
            panels = self.model.curves
            if criterion is not None:
                panels = (("bits_per_dim" if is_density(criterion) else criterion,), *panels)
            self.folder.draw_curves(panels)

    def _write(self, line: dict[str, Any], writer: Any) -> None:
        if self.is_main:
            self.folder.log(line)
        if writer is not None:
            for name, value in line.items():
                if isinstance(value, float):
                    writer.add_scalar(name, value, self.step)

    def _draw_pictures(self, epoch: int) -> None:
        if self.is_main and self.config.sample_images and self.data.image_shape[0] in (1, 3):
            watched = self.data if self.held_out is None else self.held_out
            draw_pictures(
                self.average.model, watched, self.folder.path, epoch, self.config.sample_images, self.config.seed
            )

    # ---- what it keeps ----

    def _open(self, resume: bool, overwrite: bool, source: DataConfig | None) -> None:
        """Start the run folder, or restore the state of the run in it."""
        described = {
            "name": source.data if source else self.data.name,
            "binarize": source.binarize if source else "none",
            "image_size": source.image_size if source else None,
            "title": self.data.title,
            "images": len(self.data),
        }
        self.described = {
            "model": model_to_dict(self.model_name, self.model),
            "data": described,
            "data_dir": str(source.data_dir) if source and source.data_dir else None,
            "held_out": self.held_out.title if self.held_out else None,
            "train": dataclasses.asdict(self.config),
        }
        if self.is_main:
            self.folder.lock()
            if resume:
                self.folder.resume(self.described)
            else:
                self.folder.start(self.described, overwrite)
                self.folder.lock()  # now that there is a folder
        self.accelerator.wait_for_everyone()
        if resume and (self.folder.path / "checkpoints" / "latest").is_file():
            self._restore(find_checkpoint(self.folder.path))
        if self.is_main:
            self.folder.cut_metrics(self.step)
        if self.saved_at < 0:
            if not self.given:
                self.learner.initialize()
            self._save()

    def _save(self) -> None:
        """A checkpoint of this step, unless there is one: weights, moments and a few numbers are all of the state."""
        if self.saved_at == self.step:
            return
        self._read()
        self.saved_at = self.step
        if not self.is_main:
            return
        moments = read_moments(self.model, self.learner.players.values())
        tensors = {"model": self.model.state_dict(), "optimizer": moments}
        if self.config.ema:
            tensors["ema"] = self.average.model.state_dict()
        scaler = self.accelerator.scaler
        epoch, position = divmod(self.step, self.order.steps_per_epoch)
        state = {
            "epoch": epoch,
            "position_in_epoch": position,
            "seconds": self.seconds,
            "window": self.window.state(),
            "scaler": scaler.state_dict() if scaler is not None else {},
        }
        self.folder.sync_metrics()
        write_checkpoint(self.folder.path, self.step, self.described, tensors, state)

    def _restore(self, checkpoint: Path) -> None:
        state = read_state(checkpoint)
        read_model(checkpoint, "model", self.model, state)
        read_model(checkpoint, "ema" if self.config.ema else "model", self.average.model, state)
        write_moments(self.model, self.learner.players.values(), read_tensors(checkpoint, "optimizer", state))
        try:
            self.learner.step = self.saved_at = int(state["step"])
            self.seconds = float(state["seconds"])
            if "window" in state:  # older checkpoints write it otherwise; without it the next line is of fewer steps
                self.window.restore(state["window"])
            scaler = state["scaler"]
        except (KeyError, TypeError, ValueError):
            raise GenfastError(f"{checkpoint / 'state.json'} is corrupted: resume from another checkpoint.") from None
        if scaler and self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(scaler)


def _tensorboard(run_dir: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise GenfastError("TensorBoard is not installed: pip install 'genfast[tensorboard]', or do without.") from None
    return SummaryWriter(str(run_dir / "tensorboard"), purge_step=step + 1)
