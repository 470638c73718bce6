"""A folder of images (PNG, JPEG, BMP, GIF, WebP, TIFF, PNM), sub-folders included, in the order of their names.

The SHA-256 of an image's name within the folder decides its split: 8 of 10 to train, 1 to validate, 1 to test, whatever
else is in the folder. Where there is a sub-folder `train` beside a `valid` or a `test`, these are the splits instead;
without a `valid`, the names in `train` decide which tenth of it validates.
All images must have one size, or be cut to one: image_size scales the largest centred square to image_size pixels.
They are gray if every one of them is (Pillow modes 1, L, LA), else RGB. Transparency is dropped.
"""

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image

from genfast.data.base import SPLITS, ImageSet
from genfast.errors import GenfastError

_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"}
_GRAY, _COLOUR = ("1", "L", "LA"), ("RGB", "RGBA", "P", "PA", "CMYK", "YCbCr", "LAB", "HSV")


def read_folder(path: str | Path, split: str, image_size: int | None = None) -> ImageSet:
    """One split of a folder: images uint8 [N, C, H, W] of 256 levels, C 1 or 3, no labels.

    Raises GenfastError if the folder or the split is empty, an image cannot be read (the sentence names it), or the
    sizes differ and there is no image_size.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise GenfastError(f"{root} is not a folder: give folder: the path of a folder of images.")
    if image_size is not None and image_size < 1:
        raise GenfastError(f"image_size must be at least 1 pixel, not {image_size}.")
    files = sorted(f for f in root.rglob("*") if _is_image(f, root))
    if not files:
        raise GenfastError(f"{root} holds no images: files that end in {', '.join(sorted(_ENDINGS))} are read.")
    chosen = [f for f in files if _split_of(f, root) == split]
    if not chosen:
        raise GenfastError(f"{root} has no {split} images among its {len(files)}: it needs more of them.")
    mode, size = _common(files, image_size)
    channels = 1 if mode == "L" else 3
    images = np.empty((len(chosen), channels, size[1], size[0]), dtype=np.uint8)
    for out, file in zip(images, chosen, strict=True):
        pixels = np.asarray(_decode(file, mode, image_size)).reshape(size[1], size[0], channels)
        out[...] = pixels.transpose(2, 0, 1)
    return ImageSet(f"folder:{root}", split, images, 256)


def _is_image(file: Path, root: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(root).parts)
    return not hidden and file.suffix.lower() in _ENDINGS and file.is_file()


def _split_of(file: Path, root: Path) -> str | None:
    name = file.relative_to(root)
    given = [split for split in SPLITS if (root / split).is_dir()]
    digit = int.from_bytes(hashlib.sha256(name.as_posix().encode()).digest()[:8], "big") % 10
    if "train" in given and len(given) > 1:
        top = name.parts[0]
        if top == "train" and "valid" not in given:
            return "valid" if digit == 8 else "train"
        return top if top in given else None  # an image beside those folders is in no split
    return {8: "valid", 9: "test"}.get(digit, "train")


def _common(files: list[Path], image_size: int | None) -> tuple[str, tuple[int, int]]:
    """The mode ("L" or "RGB") and size (width, height) of all splits, from the headers: the pixels are not decoded."""
    mode, size, first = "L", None, files[0]
    for file in files:
        try:
            with Image.open(file, formats=_FORMATS) as image:
                kind, this = image.mode, image.size
        except Exception as error:  # Pillow's readers raise nearly anything on a damaged file
            raise _unreadable(file, error) from None
        if kind not in _GRAY + _COLOUR:
            raise GenfastError(f"{file} has Pillow's mode {kind}, but only images with 8 bits a channel are read.")
        if kind not in _GRAY:
            mode = "RGB"
        if image_size is None and size is not None and this != size:
            raise GenfastError(
                f"{file} has {this[0]}x{this[1]} pixels but {first} has {size[0]}x{size[1]}: "
                "give --image-size to cut and scale all images to one size."
            )
        size = size or this
    assert size is not None
    return mode, size if image_size is None else (image_size, image_size)


def _decode(file: Path, mode: str, image_size: int | None) -> Image.Image:
    try:
        with Image.open(file, formats=_FORMATS) as image:
            pixels = image.convert(mode)
    except Exception as error:
        raise _unreadable(file, error) from None
    if image_size is None:
        return pixels
    width, height = pixels.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = pixels.crop((left, top, left + side, top + side))  # first: resize(box=...) would see past the edges
    return square.resize((image_size, image_size), Image.Resampling.LANCZOS)


def _unreadable(file: Path, error: Exception) -> GenfastError:
    said = str(error).splitlines()[0].rstrip(".") if str(error) else ""
    reason = type(error).__name__ if not said or str(file) in said else said
    return GenfastError(f"{file} cannot be read as an image ({reason}): repair it or take it out of the folder.")
