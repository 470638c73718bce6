"""``genfast profile``: where the time goes, and how far that is from what this machine can do."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from genfast.cli.flags import RunFlags, parse
from genfast.errors import GenfastError

if TYPE_CHECKING:
    from genfast.models import Model
    from genfast.profiling import Profile
    from genfast.profiling.workload import Workload
    from genfast.sampling import LatentSampler, Sampler
    from genfast.training import TrainConfig

DESCRIPTION = """\
Where the time of sampling, of a training step or of scoring goes: by step of the compiled sampler or by operator, with
FLOPs, bytes, the rates that come of them, and how near they are to ceilings measured on this machine in the same run.
Prints a table; the folder gets report.html (which says everything and explains the words), roofline.png, profile.json
and, but for the compiled sampler, trace.json for ui.perfetto.dev. Images are random, so no data set is needed.

Example: genfast profile gated-pixelcnn:small --what sample -n 16
         genfast profile runs/digits --what train -o runs/digits/profile
         genfast profile pixelcnn:cifar10 --what masked_conv2d"""

FRESH = "digits"  # the preset of a model that is named without one: every model has it


@dataclass(frozen=True)
class ProfileFlags(RunFlags):
    """What to profile."""

    run: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN|MODEL")]
    """Run folder of genfast train, or MODEL:PRESET with fresh weights, such as pixelcnn:small; without a preset, its
    preset digits."""
    what: str = "sample"
    """sample, train (one step), evaluate (one batch), or an operator by name or a part of it, such as masked_conv2d,
    lstm or convolution: its calls in a training step, each shape by itself."""
    count: Annotated[int, tyro.conf.arg(name="n", aliases=["-n"])] = 0
    """Images at a time (0: 16 to sample, as in training to train, 64 to evaluate)."""
    out: Annotated[Path, tyro.conf.arg(name="out", aliases=["-o"], metavar="FOLDER")] = Path("profile")
    """Folder for the report."""
    engine: str = "auto"
    """How to sample: cpu, eager, triton, jacobi, naive or auto. The cpu engine is profiled by step, others by
    operator."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of sampling: see genfast sample."""
    rows: int = 20
    """Rows of the table that is printed; the report has them all."""


def main(argv: Sequence[str]) -> None:
    """Profile, print and write."""
    flags = parse(ProfileFlags, argv, "genfast profile", DESCRIPTION)
    if flags.count < 0 or flags.rows < 1:
        raise GenfastError("-n must be 0 or more and --rows at least 1.")
    if flags.what != "sample" and (flags.engine, flags.precision) != ("auto", "float32"):
        raise GenfastError(f"--engine and --precision are for --what sample: leave them out for {flags.what}.")
    from genfast.profiling import files, table
    from genfast.profiling.trace import write_trace

    files.check_folder(flags.out)
    model, name, title = load(flags)
    if flags.what == "sample":
        profile, workload = sampling(flags, model, title)
    else:
        profile, workload = operators(flags, model, name, title)
    print(table(profile, flags.rows))
    traced = None if workload is None else lambda path: write_trace(path, workload.run, workload.network)
    names = files.write_profile(profile, flags.out, traced)
    print(f"\nwrote {', '.join(names)} in {flags.out}")


def load(flags: ProfileFlags) -> "tuple[Model, str, str]":
    """(the model on its device in evaluation mode, its name in the registry, what to call it)."""
    if flags.run.exists():
        from genfast.training.checkpoint import find_checkpoint, read_config

        model = flags.load()
        return model, read_config(find_checkpoint(flags.run))["model"]["name"], str(flags.run)
    import torch

    from genfast.models import MODELS, build_model

    name, _, preset = str(flags.run).partition(":")
    if name not in MODELS:
        raise GenfastError(
            f"There is no run folder {flags.run}, and no model {name!r}: choose one of {', '.join(MODELS)}."
        )
    presets = MODELS[name].presets
    preset = preset or FRESH
    if preset not in presets:
        raise GenfastError(f"{name} has no preset {preset!r}: choose one of {', '.join(presets)}.")
    if flags.num_threads < 0:
        raise GenfastError(f"--num-threads is {flags.num_threads}, it must be 0 or more.")
    if flags.num_threads:
        torch.set_num_threads(flags.num_threads)
    torch.manual_seed(0)
    model = build_model(name, presets[preset]).eval()
    device = "cuda" if flags.device == "auto" and torch.cuda.is_available() else "cpu"
    return model.to(device), name, f"{name}:{preset}"


def sampling(flags: ProfileFlags, model: "Model", title: str) -> "tuple[Profile, Workload | None]":
    """The cpu engine step by step, anything else by operator."""
    from genfast.profiling import profile_sampler
    from genfast.profiling.operators import profile_operators
    from genfast.profiling.workload import drawing
    from genfast.sampling.choose import sampler_of

    sampler: Sampler | LatentSampler = sampler_of(model, flags.engine, flags.precision)
    n = flags.count or 16
    if sampler.engine == "cpu":
        return profile_sampler(sampler, n, title), None  # type: ignore[arg-type]
    workload = drawing(model, sampler, n)
    profile = profile_operators(workload.run, "sample", n, pixels(model), title)
    why = f"The {sampler.engine} engine drew, operator by operator" + (f": {sampler.reason}" if sampler.reason else ".")
    return dataclasses.replace(profile, notes=(why, *profile.notes)), workload


def operators(flags: ProfileFlags, model: "Model", name: str, title: str) -> "tuple[Profile, Workload]":
    """A training step, a batch of scores, or one operator."""
    from genfast.profiling.operators import profile_operator, profile_operators
    from genfast.profiling.workload import scoring, training

    if flags.what == "evaluate":
        workload = scoring(model, flags.count or 64)
    else:
        settings = recipe(flags, name)
        workload = training(name, model, settings, flags.count or settings.batch_size, flags.device)
    if flags.what in ("train", "evaluate"):
        return profile_operators(workload.run, flags.what, workload.images, pixels(model), title), workload
    return profile_operator(workload.run, flags.what, workload.images, pixels(model), title), workload


def recipe(flags: ProfileFlags, name: str) -> "TrainConfig":
    """How the run was trained, or how the preset would be."""
    from genfast.training.checkpoint import find_checkpoint, read_config
    from genfast.training.recipe import RECIPES, TrainConfig

    if not flags.run.exists():
        return RECIPES[name, str(flags.run).partition(":")[2] or FRESH]
    described = read_config(find_checkpoint(flags.run)).get("train") or {}
    known = {field.name for field in dataclasses.fields(TrainConfig)}
    return TrainConfig(**{key: value for key, value in described.items() if key in known})


def pixels(model: "Model") -> int:
    _, height, width = model.image_shape
    return height * width
