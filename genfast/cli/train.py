"""``genfast train``: a model, a data set, a run folder."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from genfast.cli.flags import parse
from genfast.errors import GenfastError

if TYPE_CHECKING:
    from genfast.models import Classifier

EXAMPLE = "genfast train gated-pixelcnn --data digits --preset digits -o runs/digits"


def usage() -> str:
    """What ``genfast train --help`` prints: the models and their presets."""
    from genfast.models import MODELS

    models = "\n".join(f"  {name:16}presets: {', '.join(entry.presets)}" for name, entry in MODELS.items())
    return f"""\
usage: genfast train MODEL --data NAME -o RUN [--preset NAME] [options]

Train a model on the train split of a data set, watching the valid split. The run folder keeps checkpoints, metrics,
a curve and sample pictures; a run that was interrupted or killed continues with --resume.

{models}

genfast train MODEL --help              every option, with the defaults
genfast train MODEL --preset P --help   the same with the values of a preset

Example: {EXAMPLE}"""


def flags_for(model_name: str, preset: str | None) -> type:
    """The dataclass of all flags: the model's settings and the training settings, with a preset's values as defaults.

    The shape of the images and their levels are no flags: the data says what they are.
    """
    from genfast.models.registry import model_entry
    from genfast.training.recipe import RECIPES, DataConfig, TrainConfig

    entry = model_entry(model_name)
    if preset is not None and preset not in entry.presets:
        raise GenfastError(f"{model_name} has no preset {preset!r}: choose one of {', '.join(entry.presets)}.")
    config: Any = entry.config_class((1, 28, 28)) if preset is None else entry.presets[preset]
    hidden = [
        (name, Annotated[kind, tyro.conf.Suppress], dataclasses.field(default=getattr(config, name)))
        for name, kind in (("image_shape", tuple[int, int, int]), ("levels", int))
    ]
    name = entry.config_class.__name__
    model_flags = dataclasses.make_dataclass(name, hidden, bases=(entry.config_class,), frozen=True)
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(entry.config_class)}
    recipe = TrainConfig() if preset is None else RECIPES[model_name, preset]
    # Other models have no encoder to start from, so they do not show the option.
    encoder_kind: Any = Path | None if model_name == "classifier" else Annotated[Path | None, tyro.conf.Suppress]

    @dataclass(frozen=True)
    class TrainFlags:
        source: DataConfig
        """The images."""
        out: Annotated[Path, tyro.conf.arg(name="out", aliases=["-o"], metavar="RUN")]
        """Folder for the run: checkpoints, metrics, curve and sample pictures."""
        preset: str | None = None
        """Start from the settings of this preset; other options still apply."""
        train_images: int = 0
        """Train on so many images only, picked by a fixed shuffle (0: on all)."""
        init_encoder: encoder_kind = None
        """Start a classifier from the encoder of this run of an autoencoder or a vae, whose size it takes over."""
        resume: bool = False
        """Continue the run in the folder from its last checkpoint, with the same options."""
        overwrite: bool = False
        """Replace the run in the folder."""
        model: Any = dataclasses.field(default_factory=lambda: model_flags(**values))
        """The model. The shape of the images and their levels come from the data."""
        train: TrainConfig = dataclasses.field(default_factory=lambda: recipe)
        """Training."""

    # Made at run time, so no annotations for a type checker.
    TrainFlags.__annotations__.update(model=model_flags, init_encoder=encoder_kind)

    return TrainFlags


def preset_in(argv: Sequence[str]) -> str | None:
    """The value of --preset, which decides the other options' defaults and so must be known before them."""
    for i, word in enumerate(argv):
        if word == "--preset" and i + 1 < len(argv):
            return argv[i + 1]
        if word.startswith("--preset="):
            return word.partition("=")[2]
    return None


def start_from(run: Path, config: Any) -> "Classifier":
    """A classifier on the encoder of a trained model. Raises GenfastError where that is for other images."""
    from genfast.models import Classifier
    from genfast.training import load_model

    encoder = load_model(run)
    for name in ("image_shape", "levels"):
        if getattr(encoder, name) != getattr(config, name):
            raise GenfastError(
                f"The encoder of {run} is for images with {name} {getattr(encoder, name)}, but these have "
                f"{getattr(config, name)}: choose the data that it was trained on."
            )
    return Classifier.from_encoder(encoder, config.freeze, config.num_classes)


def say(line: str) -> None:
    """Print a line at once; under ``accelerate launch``, from the first process only."""
    if os.environ.get("RANK", "0") == "0":
        print(line, flush=True)


def main(argv: Sequence[str]) -> None:
    """Train, and say how it went."""
    if not argv or argv[0] in ("-h", "--help"):
        print(usage())
        return
    from genfast.models.registry import model_entry

    model_name, rest = argv[0], argv[1:]
    preset = preset_in(rest)
    presets = ", ".join(model_entry(model_name).presets)
    description = f"Train {model_name} on the train split of a data set. Presets: {presets}.\n\nExample: {EXAMPLE}"
    flags: Any = parse(flags_for(model_name, preset), rest, f"genfast train {model_name}", description)
    import torch

    from genfast.training import train

    if flags.resume and flags.overwrite:
        raise GenfastError("Give --resume or --overwrite, not both.")
    images, held_out = flags.source.load("train"), flags.source.load("valid")
    config_class = model_entry(model_name).config_class
    values = {field.name: getattr(flags.model, field.name) for field in dataclasses.fields(config_class)}
    values.update(image_shape=images.image_shape, levels=images.levels)
    if flags.train_images < 0:
        raise GenfastError(f"--train-images is {flags.train_images}, it must be 0 or more.")
    if flags.train_images:
        images = images.subset(flags.train_images)
    config, initial = config_class(**values), None
    if flags.init_encoder is not None:
        initial = start_from(flags.init_encoder, config)
        config = initial.config
    print(
        f"training {model_name} on {len(images)} images of {images.title}, watching {len(held_out)} of {held_out.title}"
    )
    try:
        result = train(
            model_name,
            config,
            images,
            flags.train,
            flags.out,
            flags.resume,
            overwrite=flags.overwrite,
            held_out=held_out,
            source=flags.source,
            initial=initial,
            progress=sys.stderr.isatty(),
            report=say,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("the same command with --resume continues from the last checkpoint") from None
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    say(f"done: step {result.step}" + (f", {result.held_out}" if result.held_out else ""))
    verb = "features" if model_name in ("autoencoder", "classifier") else "sample"
    out = "features.npz" if verb == "features" else "samples.png"
    first = f"genfast evaluate {flags.out}"
    if result.model.criterion is None:
        first = f"genfast evaluate {flags.out} --samples 5000"
    say(f"the run is in {flags.out}; next: {first}, genfast {verb} {flags.out} -o {out}")
