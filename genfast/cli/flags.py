"""Command-line flags from dataclasses, and the ones that several verbs share."""

import contextlib
import io
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

from genfast.errors import GenfastError
from genfast.profiling.units import seconds as seconds

if TYPE_CHECKING:
    from torch import Tensor

    from genfast.data import ImageSet
    from genfast.models import Model
    from genfast.sampling import Sampler
    from genfast.training import DataConfig

Flags = TypeVar("Flags")


def parse(flags: type[Flags], argv: Sequence[str], prog: str, description: str) -> Flags:
    """Fill a dataclass from the command line. ``--help`` prints and exits; raises GenfastError for anything wrong.

    tyro would print a wrong flag as a box of several lines; here it becomes one sentence.
    """
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            return tyro.cli(
                flags,
                prog=prog,
                description=description,
                args=list(argv),
                config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise GenfastError(f"{_one_sentence(stderr.getvalue())} (see {prog} --help).") from None


def _one_sentence(box: str) -> str:
    """What tyro's box says: its text, the names of the options it lists, and the ones it suggests."""
    lines = [re.sub(r"\x1b\[[0-9;]*m", "", line).strip("│|").rstrip() for line in box.splitlines()]
    sections: list[list[str]] = [[]]
    for line in lines[1:]:  # the first is the title
        if re.fullmatch(r"\s*[─-]{3,}\s*", line):
            sections.append([])
        elif line.strip() and not line.startswith("╰"):
            sections[-1].append(line)
    sections = [section for section in sections if section]
    said = []
    for section in sections[:2]:
        margin = min(len(line) - len(line.lstrip()) for line in section)
        text = " ".join(line.strip() for line in section if not line[margin:].startswith(" "))
        options = [line.strip() for line in section if re.match(r" {4}\S", line[margin:])]  # deeper: their help texts
        if section is sections[0] or text == "Perhaps you meant:":
            said.append(" ".join([text, ", ".join(options)]).strip(" ."))
    return "; ".join(said).replace("; Perhaps", "; perhaps") or "These options cannot be understood"


Output = Annotated[Path, tyro.conf.arg(name="out", aliases=["-o"], metavar="FILE")]


@dataclass(frozen=True)
class RunFlags:
    """Which trained model, and where it runs."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN")]
    """Run folder of genfast train, or one folder of its checkpoints."""
    weights: Literal["ema", "last"] = "ema"
    """ema: the moving average of the weights, usually better; last: the weights after the last step."""
    device: Literal["auto", "cpu"] = "auto"
    """auto takes a GPU when there is one."""
    num_threads: int = 0
    """CPU threads (0: PyTorch's choice)."""

    def load(self) -> "Model":
        """The model, on its device, in evaluation mode."""
        import torch

        from genfast.training import load_model

        if self.num_threads < 0:
            raise GenfastError(f"--num-threads is {self.num_threads}, it must be 0 or more.")
        if self.num_threads:
            torch.set_num_threads(self.num_threads)
        model = load_model(self.run, self.weights)
        return model.to("cuda" if self.device == "auto" and torch.cuda.is_available() else "cpu")


@dataclass(frozen=True)
class DataFlags:
    """Which images."""

    data: str | None = None
    """Data set (default: the one the model was trained on)."""
    split: Literal["test", "valid", "train"] = "test"
    """Which part of it."""
    binarize: str | None = None
    """none, threshold or dynamic (default: as in training)."""
    image_size: int | None = None
    """Size in pixels for a folder of images (default: as in training)."""
    data_dir: Path | None = None
    """Folder with the data sets (default: as in training, then GENFAST_DATA, then a cache folder)."""

    def source(self, run: Path) -> "DataConfig":
        """The data set, for a model from this run folder or checkpoint."""
        from genfast.cli.data import run_data
        from genfast.training.checkpoint import find_checkpoint

        return run_data(find_checkpoint(run), self.data, self.binarize, self.image_size, self.data_dir)

    def load_images(self, run: Path) -> "ImageSet":
        """The images, for a model from this run folder or checkpoint."""
        return self.source(run).load(self.split)


@dataclass(frozen=True)
class DrawFlags(RunFlags):
    """How levels are drawn."""

    seed: int = 0
    """Seed. The same seed gives the same images, in any number and by any engine."""
    first: int = 0
    """Number of the first image: -n 8 --first 8 continues where -n 8 ended."""
    temperature: float = 1.0
    """Below 1 more typical pixels, above 1 wilder ones; 0 always takes the most probable level."""
    top_k: int | None = None
    """Draw among the k most probable levels of each pixel only (default: all)."""
    top_p: float | None = None
    """Draw among the most probable levels that together have this probability (default: all)."""
    label: tuple[int, ...] = ()
    """Class labels for a model trained with --num-classes; given several, the images take turns."""
    condition: Path | None = None
    """A .npy file with the vectors, float [n, D] or [D], for a model conditioned on vectors."""
    engine: str = "auto"
    """How to sample: cpu (each activation computed once, in C++: less than one forward pass), eager (the same in
    PyTorch), triton and cuda (the same on a GPU, by recorded launches and by one kernel), jacobi (several times fewer
    passes than pixels), naive (one pass per pixel), or auto (the fastest that can run)."""
    precision: Literal["float32", "bfloat16", "tf32"] = "float32"
    """bfloat16: the incremental engines round the factors of matrix products; faster where the machine has AMX (see
    genfast info), and not quite the model's own distribution. tf32: the same for the triton engine."""
    batch_size: int | None = None
    """Images drawn at a time; bounds the memory (default: what suits the engine)."""

    def explain(self, sampler: "Sampler") -> None:
        """Says on stderr why the fastest engine was not taken, if it was not."""
        if sampler.reason:
            print(f"genfast: the {sampler.engine} engine runs: {sampler.reason}", file=sys.stderr)

    def options(self) -> dict[str, Any]:
        """Keywords for Sampler.sample and Sampler.complete."""
        names = ("seed", "first", "temperature", "top_k", "top_p", "batch_size")
        return {name: getattr(self, name) for name in names} | {"progress": sys.stderr.isatty()}

    def conditions(self, model: "Model", n: int) -> "Tensor | None":
        """One condition for each of n images, from --label or --condition; None if neither was given."""
        import numpy as np
        import torch

        if self.label and self.condition is not None:
            raise GenfastError("Give --label or --condition, not both.")
        if self.label:
            if model.num_classes is None:
                raise GenfastError("This model was trained without labels: leave out --label.")
            return torch.tensor(self.label)[torch.arange(n) % len(self.label)]
        if self.condition is None:
            if model.num_classes is not None:
                return torch.arange(n) % model.num_classes
            if model.condition_dim is not None:
                raise GenfastError(f"This model needs --condition FILE.npy with {model.condition_dim} floats an image.")
            return None
        try:
            vectors = np.load(self.condition, allow_pickle=False)
        except (ValueError, EOFError):
            raise GenfastError(f"{self.condition} is not a .npy file of numbers.") from None
        if not isinstance(vectors, np.ndarray) or vectors.dtype.kind not in "fiu" or vectors.ndim not in (1, 2):
            raise GenfastError(f"{self.condition} must hold one array of numbers, [n, D] or [D].")
        tensor = torch.from_numpy(vectors.astype(np.float32))
        return tensor.expand(n, -1) if tensor.ndim == 1 else tensor
