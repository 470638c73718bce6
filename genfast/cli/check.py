"""``genfast check``: what each output of a network reads, and whether it may."""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from genfast.cli.flags import parse
from genfast.errors import GenfastError

if TYPE_CHECKING:
    from torch import nn

DESCRIPTION = """\
Check a network's causality: leaks from later pixels, from colours that are drawn later and from other images of the
batch, with the layers that they come through; blind spots; the receptive field. Read off the zeros of its weights in
evaluation mode. Exit code 0 if it is causal, 1 if it is not.

Example: genfast check my_module.py:build_model --image-shape 3 32 32"""


@dataclass(frozen=True)
class CheckFlags:
    """Which network, and how it is called."""

    network: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE.py:NAME")]
    """A function without arguments that makes the nn.Module, or the module itself, in a Python file or an importable
    module (package.module:NAME); or the run folder of genfast train. The function may also return (module, options)
    with further arguments of genfast.accelerate: pick, condition, encode."""
    image_shape: tuple[int, int, int] | None = None
    """Channels, height, width."""
    likelihood: Literal["categorical", "bernoulli", "whole-pixels"] = "categorical"
    """What the output holds: a logit for each level, one logit, or any numbers that the colours of a pixel share (a
    mixture of logistics)."""
    levels: int | None = None
    """How many values a sub-pixel can take (default: 256; 2 for bernoulli)."""
    encode: Literal["unit", "signed", "integer"] = "unit"
    """How levels go in: 0 to 1, -1 to 1, or as int64."""
    label: tuple[int, ...] = ()
    """Class labels, if the network takes them after the images."""
    at: tuple[int, int] | None = None
    """The pixel y x whose receptive field is shown (default: the middle one)."""
    picture: Path | None = None
    """Write the receptive field as a picture as well."""


def main(argv: Sequence[str]) -> int:
    """Check a network, print the report, and return the exit code."""
    flags = parse(CheckFlags, argv, "genfast check", DESCRIPTION)
    if flags.picture is not None and flags.picture.suffix.lower() not in (".png", ".jpg", ".gif"):
        raise GenfastError(f"--picture must be a .png, .jpg or .gif file, not {flags.picture}.")
    import torch

    from genfast.compiler import check_causality

    module, options = find_network(flags.network)
    shape = options.get("image_shape", flags.image_shape)
    options = {"image_shape": shape, "encode": flags.encode, "levels": flags.levels} | options
    options.setdefault("likelihood", (lambda params, uniforms: uniforms) if whole(flags) else flags.likelihood)
    if flags.label:
        options.setdefault("condition", torch.tensor(flags.label))
    if shape is None and not hasattr(module, "image_shape"):
        raise GenfastError("Which images? Add --image-shape CHANNELS HEIGHT WIDTH.")
    report = check_causality(module.eval(), **options)
    print(report)
    _, height, width = report.program.image_shape
    y, x = flags.at if flags.at is not None else (height // 2, width // 2)
    if not (0 <= y < height and 0 <= x < width):
        raise GenfastError(f"There is no pixel {y} {x} in images of {height} x {width}: change --at.")
    if not any(leak.between_images for leak in report.leaks):
        print(f"The receptive field of pixel (y={y}, x={x}): # read, o blind, . out of reach, X itself, ! leak")
        print(report.text_picture(0, y, x))
        if flags.picture is not None:
            report.save_picture(str(flags.picture), 0, y, x)
            print(f"wrote {flags.picture}")
    return 0 if report.ok else 1


def whole(flags: CheckFlags) -> bool:
    return flags.likelihood == "whole-pixels"


def find_network(name: str) -> tuple["nn.Module", dict[str, Any]]:
    """The network that FILE.py:NAME, package.module:NAME or a run folder is, and options that come with it.

    Raises GenfastError, in one sentence, where there is none.
    """
    from torch import nn

    place, colon, attribute = name.rpartition(":")
    if not colon:
        if not Path(name).is_dir():
            raise GenfastError(f"{name} is neither FILE.py:NAME nor a run folder.")
        from genfast.training import load_model

        return load_model(Path(name)), {}
    found = getattr(load(place), attribute, None)
    if found is None:
        raise GenfastError(f"There is no {attribute} in {place}.")
    if not isinstance(found, nn.Module) and callable(found):
        try:
            found = found()
        except Exception as error:
            raise GenfastError(f"{attribute}() of {place} fails: {type(error).__name__}: {error}") from error
    module, options = found if isinstance(found, tuple) and len(found) == 2 else (found, {})
    if not isinstance(module, nn.Module) or not isinstance(options, dict):
        raise GenfastError(
            f"{attribute} of {place} must be, or return, an nn.Module, or (module, options), not a "
            f"{type(found).__name__}."
        )
    return module, options


def load(place: str) -> Any:
    """The Python module in a file or of a dotted name."""
    path = Path(place)
    if path.suffix != ".py":
        try:
            return importlib.import_module(place)
        except ImportError as error:
            raise GenfastError(f"{place} cannot be imported: {error}.") from None
    if not path.is_file():
        raise GenfastError(f"{place}: there is no such file.")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))  # for what the file imports from beside it
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise GenfastError(f"{place} cannot be run: {type(error).__name__}: {error}") from error
    finally:
        sys.path.pop(0)
    return module
