"""The quality part of ``genfast evaluate``: draw images, compare them with held-out ones, show and keep the results."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from genfast.cli.flags import DataFlags, RunFlags
from genfast.errors import GenfastError

if TYPE_CHECKING:
    from torch import Tensor

    from genfast.data import ImageSet
    from genfast.models import Model
    from genfast.quality import FeatureSpace, Quality
    from genfast.training import DataConfig

HEADINGS = {"generated": "generated", "real": "other real", "noise": "noise"}
MOST_CLASSES = 20  # of which the counts fit into a line


@dataclass(frozen=True)
class QualityFlags(DataFlags, RunFlags):
    """What to compare."""

    samples: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 0
    """Also draw so many images and compare them with as many held-out ones (0: do not; 5000 says a lot)."""
    images: Annotated[Path | None, tyro.conf.arg(metavar="PATH")] = None
    """Compare these images, an .npz as genfast sample writes it or a folder of pictures, instead of the model's."""
    classifier: Annotated[Path | None, tyro.conf.arg(metavar="RUN")] = None
    """Compare in the feature space of this classifier (default: RUN itself, if it is one; else RUN/classifier, which is
    trained on the same data when it is first needed)."""
    inception: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Compare by these Inception weights as well, which makes the FID: a TorchScript file that maps uint8 images
    [N, 3, 299, 299] to 2048 features."""
    seed: int = 0
    """Seed of the images drawn, of noise, and of the subsets of the kernel distance."""

    @property
    def compares(self) -> bool:
        """Whether images are to be compared at all. Raises GenfastError for options that then make no sense."""
        if self.samples < 0:
            raise GenfastError(f"--samples is {self.samples}, it must be 0 or more.")
        if self.samples and self.images is not None:
            raise GenfastError("Give --samples or --images, not both.")
        wanted = bool(self.samples) or self.images is not None
        if not wanted and (self.classifier is not None or self.inception is not None):
            raise GenfastError(
                "--classifier and --inception are for comparing images: add --samples N or --images PATH."
            )
        return wanted


@dataclass(frozen=True)
class Comparison:
    """Everything that a comparison needs: what could be refused has been, and no image is drawn yet."""

    draw: Callable[[], "Tensor"]
    real: "ImageSet"
    training: "ImageSet | None"
    spaces: "list[FeatureSpace]"
    accuracy: float | None
    """Of the classifier, on the real images."""
    seed: int
    out: Path
    """The results go to this name with .json and .png."""

    def run(self) -> tuple["Quality", dict[str, Any]]:
        """Draw, compare and write. Returns what was found, and what was written as JSON."""
        from genfast.quality import assess
        from genfast.sampling.pictures import save_grid
        from genfast.training.files import write_json

        found = assess(self.draw(), self.real, self.spaces, self.training, self.seed)
        values = {**found.to_dict(), "classifier_accuracy": self.accuracy, "seed": self.seed}
        write_json(self.out.with_name(self.out.name + ".json"), values)
        if found.pairs is not None and found.pairs.shape[1] in (1, 3):
            picture = self.out.with_name(self.out.name + ".png")
            save_grid(picture, found.pairs, self.real.levels, columns=len(found.pairs) // 2)
        return found, values


def prepare(flags: QualityFlags, model: "Model", checkpoint: Path) -> Comparison:
    """Check the request, and train the classifier if there is none yet. Raises GenfastError for what cannot be done."""
    from genfast.quality import check_count
    from genfast.training.evaluate import check_match

    folder = checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint
    source = flags.source(checkpoint)
    real = source.load(flags.split)
    check_match(model, real, labels=flags.images is None)
    if flags.images is None:
        check_count(flags.samples, real)
        draw, name = drawing(flags, model, real), "quality"
    else:
        images = images_in(flags.images, real)
        check_count(len(images), real)
        draw, name = lambda: images, f"quality-{flags.images.stem}"
    spaces, accuracy = feature_spaces(flags, model, folder, source, real)
    training = training_images(flags, checkpoint, source)
    return Comparison(draw, real, training, spaces, accuracy, flags.seed, folder / name)


def drawing(flags: QualityFlags, model: "Model", real: "ImageSet") -> Callable[[], "Tensor"]:
    """What draws the model's images; given classes, those of the real images that they are compared with."""
    import torch

    from genfast.quality.assess import halves
    from genfast.sampling.choose import sampler_of
    from genfast.sampling.noise import check_seed

    check_seed(flags.seed, 0, flags.samples)
    sampler, condition = sampler_of(model), None
    if model.num_classes is not None:
        condition = torch.from_numpy(halves(real, flags.samples)[0].labels)
    return lambda: sampler.sample(flags.samples, seed=flags.seed, condition=condition, progress=sys.stderr.isatty())


def feature_spaces(
    flags: QualityFlags, model: "Model", folder: Path, source: "DataConfig", real: "ImageSet"
) -> tuple[list["FeatureSpace"], float | None]:
    """The spaces to compare in, and the accuracy of the classifier that makes one of them."""
    from genfast.models import Classifier
    from genfast.quality import ClassifierSpace, InceptionSpace, classifier_of
    from genfast.training import load_model

    device = next(model.parameters()).device
    inception = [] if flags.inception is None else [InceptionSpace(flags.inception, device)]
    name = flags.run if isinstance(model, Classifier) else folder / "classifier"
    if flags.classifier is not None:
        classifier, name = load_model(flags.classifier), flags.classifier
    elif isinstance(model, Classifier):
        classifier = model
    else:
        classifier = classifier_of(
            name, source, lambda line: print(line, file=sys.stderr, flush=True), flags.device, flags.num_threads
        )
    space = ClassifierSpace(classifier.to(device), f"the classifier in {name}")  # type: ignore[arg-type]
    return [space, *inception], space.accuracy(real)


def training_images(flags: QualityFlags, checkpoint: Path, source: "DataConfig") -> "ImageSet | None":
    """What the model was trained on; None where the comparison is with the training images anyway."""
    from genfast.training.checkpoint import read_config

    if flags.split == "train":
        return None
    images = source.load("train")
    described = read_config(checkpoint).get("data")
    count = described.get("images") if isinstance(described, dict) and flags.data is None else None
    return images.subset(count) if isinstance(count, int) and count > 0 else images  # as --train-images picks them


def images_in(path: Path, real: "ImageSet") -> "Tensor":
    """The images of a file or of all pictures in a folder, in the order of their names.  # uint8 [N, C, H, W]"""
    import numpy as np
    import torch

    from genfast.cli.data import read_images

    files = [path]
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.is_file() and not file.name.startswith("."))
        if not files:
            raise GenfastError(f"{path} holds no pictures.")
    return torch.from_numpy(np.concatenate([read_images(file, real.image_shape, real.levels) for file in files]))


def show(found: "Quality", accuracy: float | None) -> None:
    """The measures in columns: of the generated images, of other real ones, and of noise."""
    print(f"  {found.images} generated images against as many of {found.title};")
    print("  beside them two floors: other real images against the same ones, and noise against them")
    for space in found.spaces:
        columns = [space.scores[name] for name in HEADINGS]
        print(f"  by {space.title}")
        _row("", list(HEADINGS.values()))
        _row("kernel distance", [f"{c.kernel.value:.4f} ± {c.kernel.standard_error:.4f}" for c in columns])
        _row(space.frechet, [f"{c.frechet:.4f}" for c in columns])
        for name in ("precision", "recall"):
            _row(name, [f"{getattr(c.precision_recall, name):.4f}" for c in columns])
        for name in ("density", "coverage"):
            _row(name, [f"{getattr(c.density_coverage, name):.4f}" for c in columns])
    if found.classes:
        kinds = [found.classes[name] for name in HEADINGS]
        right = "" if accuracy is None else f" (it is right about {accuracy:.1%} of the real images)"
        print(f"  classes, as the classifier sees them{right}")
        _row("covered", [f"{modes.covered} of {modes.of}" for modes in kinds])
        _row("entropy, nats", [f"{modes.entropy:.4f}" for modes in kinds])
        if len(kinds[0].histogram) <= MOST_CLASSES:
            print(f"    generated images of each: {' '.join(str(count) for count in kinds[0].histogram)}")
    if found.copies:
        print("  distance to the nearest training image, its median; a generated one is nearer than a held-out one in")
        print("  about half of all pairs, and in nearly all where a model repeats its training images")
        _row("", ["generated", "held out", "nearer"])
        for name, copies in found.copies.items():
            _row(f"by {name}", [f"{copies.generated:.4f}", f"{copies.held_out:.4f}", f"{copies.closer:.1%}"])


def _row(name: str, cells: list[str]) -> None:
    print(f"    {name:18}" + "".join(f"{cell:>22}" for cell in cells))
