"""Images for the command line: the data of a run, and files that somebody names."""

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from genfast.errors import GenfastError
from genfast.training.checkpoint import read_config
from genfast.training.recipe import DataConfig


def run_data(
    checkpoint: Path, data: str | None, binarize: str | None, image_size: int | None, data_dir: Path | None
) -> DataConfig:
    """The data set a run was trained on, with what is not None replaced; nothing carries over to other data."""
    config = read_config(checkpoint)
    if data is not None:
        return DataConfig(data, binarize or "none", image_size, data_dir)
    described = config.get("data")
    if not isinstance(described, dict) or not isinstance(described.get("name"), str):
        raise GenfastError(f"{checkpoint} does not say what data it was trained on: name some with --data.")
    stored_dir = config.get("data_dir")
    return DataConfig(
        described["name"],
        binarize or described.get("binarize", "none"),
        image_size or described.get("image_size"),
        data_dir or (Path(stored_dir) if stored_dir else None),
    )


def read_images(path: Path, image_shape: tuple[int, int, int], levels: int) -> np.ndarray:
    """Images from a file for a model of this shape and number of levels.  # uint8 levels [N, C, H, W]

    .npz: the array ``images``, levels [N, C, H, W] (or [N, H, W] for one channel), as genfast sample writes it.
    Any other file: one picture, whose 8-bit values are rounded to the model's levels. Raises GenfastError for the rest.
    """
    channels, height, width = image_shape
    if path.suffix.lower() == ".npz":
        images = _array(path, "images")
        if images.ndim == 3:
            images = images[:, None]
        if images.dtype.kind not in "iub":
            raise GenfastError(f"{path}: images must be integer levels, not {images.dtype}.")
    else:
        try:
            with Image.open(path) as picture:
                if channels not in (1, 3):
                    raise GenfastError(f"A picture cannot hold {channels} channels: give an .npz.")
                values = np.asarray(picture.convert("L" if channels == 1 else "RGB"))
        except (UnidentifiedImageError, SyntaxError, ValueError):
            raise GenfastError(f"{path} is truncated, corrupted or not a picture.") from None
        except OSError as error:
            if error.strerror:
                raise
            raise GenfastError(f"{path} is truncated or corrupted.") from None
        values = values.reshape(*values.shape[:2], channels).transpose(2, 0, 1)[None]
        images = np.rint(values.astype(np.float64) * (levels - 1) / 255.0).astype(np.uint8)
    if images.shape[0] == 0 or images.shape[1:] != image_shape:
        raise GenfastError(
            f"{path} holds images of shape {images.shape[1:]} ({images.shape[0]} of them), but the model is for "
            f"{image_shape} (channels, height, width)."
        )
    if images.min() < 0 or images.max() >= levels:
        raise GenfastError(
            f"{path} has pixels from {images.min()} to {images.max()}, but the model knows levels 0 to {levels - 1}."
        )
    return images.astype(np.uint8)


def read_known(known: str, image_shape: tuple[int, int, int], n: int) -> np.ndarray:
    """Which pixels are known: top-half, left-half, or the array ``known`` of an .npz.  # bool [n, 1, H, W]"""
    _, height, width = image_shape
    mask = np.zeros((height, width), bool)
    if known == "top-half":
        mask[: (height + 1) // 2] = True
    elif known == "left-half":
        mask[:, : (width + 1) // 2] = True
    elif not known.endswith(".npz"):
        raise GenfastError(f"--known is {known!r}: give top-half, left-half, or an .npz file with the array known.")
    else:
        mask = _array(Path(known), "known")
        if mask.dtype != np.bool_:
            raise GenfastError(f"{known}: known must be an array of booleans (True where known), not {mask.dtype}.")
        if mask.shape not in ((height, width), (n, 1, height, width)):
            raise GenfastError(
                f"{known}: known must have shape {(height, width)} or {(n, 1, height, width)}, not {mask.shape}."
            )
    return np.broadcast_to(mask, (n, 1, height, width)).copy()


def _array(path: Path, name: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as file:
            return np.asarray(file[name])
    except KeyError:
        raise GenfastError(f"{path} has no array named {name}.") from None
    except (ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError):
        raise GenfastError(f"{path} is truncated, corrupted or not an .npz file of plain arrays.") from None
