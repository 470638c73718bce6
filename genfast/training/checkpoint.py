"""Checkpoints: safetensors plus JSON, written atomically, and never unpickled.

A run keeps them in ``checkpoints/``: folders ``step-00000123`` and a file ``latest`` with the name of the newest.
A folder is complete from the moment it has its name, and ``latest`` moves only then, so a process killed at any
moment leaves a run that loads. One folder holds

    config.json            the model's name and settings, the data, the training settings
    model.safetensors      the weights after this step
    ema.safetensors        their moving average (absent when the run kept none)
    optimizer.safetensors  the optimizer's state, one tensor per parameter and moment
    state.json             format version, step, position in the epoch, size and SHA-256 of the files above
"""

import hashlib
import importlib.metadata
import os
import shutil
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from genfast.errors import GenfastError
from genfast.models import Model, build_model, config_from_dict, config_to_dict
from genfast.training.files import read_json, sync, write_atomically, write_json

FORMAT = 1
"""Goes up when an older genfast could not read what this one writes, or the reverse."""


def versions() -> dict[str, str]:
    """Versions of genfast and torch, for the record."""
    try:
        genfast = importlib.metadata.version("genfast")
    except importlib.metadata.PackageNotFoundError:
        genfast = "not installed"
    return {"genfast": genfast, "torch": torch.__version__}


def model_to_dict(name: str, model: Model) -> dict[str, Any]:
    """The part of config.json that says which model this is."""
    return {"name": name, "config": config_to_dict(model.config)}


# ---- writing ----


def write_folder(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]], state: Mapping[str, Any]
) -> None:
    """Write one complete checkpoint folder under its final name in one step; a folder of that name is replaced.

    tensors: file stem -> named tensors.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / f".new-{folder.name}-{uuid.uuid4().hex[:8]}"
    temporary.mkdir()
    try:
        files = {}
        for stem, named in tensors.items():
            path = temporary / f"{stem}.safetensors"
            # A copy of each: safetensors refuses tensors that share memory.
            content = save({name: t.detach().to("cpu", copy=True).contiguous() for name, t in named.items()})
            path.write_bytes(content)
            sync(path)
            files[path.name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        write_json(temporary / "config.json", {"format": FORMAT, **config})
        write_json(temporary / "state.json", {"format": FORMAT, **versions(), **state, "files": files})
        if folder.exists():
            replaced = folder.parent / f".old-{folder.name}-{uuid.uuid4().hex[:8]}"
            os.rename(folder, replaced)
            os.rename(temporary, folder)
            shutil.rmtree(replaced)
        else:
            os.rename(temporary, folder)
        sync(folder.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def write_checkpoint(
    run_dir: Path,
    step: int,
    config: Mapping[str, Any],
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    keep: int = 2,
) -> Path:
    """Add a checkpoint to a run, point ``latest`` at it, and drop all but the newest ``keep``."""
    checkpoints = run_dir / "checkpoints"
    folder = checkpoints / f"step-{step:08d}"
    write_folder(folder, config, tensors, {"step": step, **state})
    write_atomically(checkpoints / "latest", lambda path: path.write_text(folder.name + "\n", encoding="utf-8"))
    for leftover in (*checkpoints.glob(".new-*"), *checkpoints.glob(".old-*")):  # of processes that were killed
        shutil.rmtree(leftover, ignore_errors=True)
    others = sorted(path for path in checkpoints.glob("step-*") if path != folder)
    for old in others[: len(others) - (keep - 1)] if keep > 1 else others:
        gone = checkpoints / f".old-{old.name}"
        os.rename(old, gone)  # first: so that every folder named step-* is complete
        shutil.rmtree(gone, ignore_errors=True)
    return folder


def save_model(folder: str | Path, name: str, model: Model) -> None:
    """Save a model made outside ``genfast train`` so that load_model and the command line read it.

    name: its name in genfast.models.MODELS. A checkpoint already in ``folder`` is replaced; raises GenfastError when
    the folder holds anything else.
    """
    folder = Path(folder)
    if folder.exists() and not (folder / "state.json").is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise GenfastError(f"{folder} is there already and is not a checkpoint: choose another name.")
    write_folder(folder, {"model": model_to_dict(name, model)}, {"model": model.state_dict()}, {"step": 0})


# ---- reading ----


def find_checkpoint(path: str | Path) -> Path:
    """The checkpoint folder that ``path`` means: itself, or a run's latest. Raises GenfastError if there is none."""
    path = Path(path)
    if not path.exists():
        raise GenfastError(f"{path} does not exist: give a run folder of genfast train, or one of its checkpoints.")
    if (path / "state.json").is_file():
        return path
    marker = path / "checkpoints" / "latest"
    if not marker.is_file():
        if (path / "config.json").is_file():
            raise GenfastError(f"{path} has no checkpoint yet: wait for the first one, or train again with --resume.")
        raise GenfastError(f"{path} is neither a run folder of genfast train nor a checkpoint.")
    name = marker.read_bytes().decode("utf-8", errors="replace").strip()
    folder = marker.parent / name
    if not name.startswith("step-") or Path(name).name != name or not folder.is_dir():
        raise GenfastError(f"{marker} is corrupted: name one of the folders beside it instead.")
    return folder


def read_state(folder: Path) -> dict[str, Any]:
    """state.json of a checkpoint, its format checked."""
    state = read_json(folder / "state.json")
    if state.get("format") != FORMAT:
        raise GenfastError(
            f"{folder} is in checkpoint format {state.get('format')!r}, written by genfast {state.get('genfast')}, but "
            f"genfast {versions()['genfast']} reads format {FORMAT}: load it with the release that wrote it."
        )
    return state


def read_tensors(folder: Path, stem: str, state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of one file of a checkpoint, after its size and checksum matched state.json."""
    path = folder / f"{stem}.safetensors"
    try:
        expected = state["files"][path.name]
        size, digest = expected["bytes"], expected["sha256"]
    except (KeyError, TypeError):
        raise GenfastError(f"{folder / 'state.json'} is corrupted: it does not describe {path.name}.") from None
    if not path.is_file():
        raise GenfastError(f"{path} is missing: use another checkpoint.")
    if path.stat().st_size != size:
        raise GenfastError(f"{path} is truncated ({path.stat().st_size} of {size} bytes): use another checkpoint.")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise GenfastError(f"{path} is corrupted (its checksum does not match): use another checkpoint.")
    try:
        return load(content)
    except SafetensorError as error:
        raise GenfastError(f"{path} is not a safetensors file ({error}): use another checkpoint.") from None


def read_model(folder: Path, stem: str, model: Model, state: Mapping[str, Any]) -> None:
    """Load one file of weights into ``model``; raises GenfastError naming the first tensor that does not fit."""
    tensors = read_tensors(folder, stem, state)
    path = folder / f"{stem}.safetensors"
    wanted = model.state_dict()
    for name, tensor in wanted.items():
        if name not in tensors:
            raise GenfastError(f"{path} lacks the tensor {name}: it does not fit the model in config.json.")
        if tensors[name].shape != tensor.shape:
            raise GenfastError(
                f"{path} has {name} of shape {list(tensors[name].shape)}, but the model in config.json needs "
                f"{list(tensor.shape)}."
            )
    for name in tensors:
        if name not in wanted:
            raise GenfastError(f"{path} has an unexpected tensor {name}: it does not fit the model in config.json.")
    model.load_state_dict(tensors)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a run or a checkpoint, its format checked."""
    config = read_json(folder / "config.json")
    if config.get("format") != FORMAT:
        raise GenfastError(
            f"{folder / 'config.json'} is in format {config.get('format')!r}, but genfast {versions()['genfast']} "
            f"reads format {FORMAT}: use the release that wrote it."
        )
    return config


def load_model(path: str | Path, weights: Literal["ema", "last"] = "ema") -> Model:
    """The model of a run folder (its latest checkpoint) or of one checkpoint folder, in evaluation mode, on the CPU.

    weights: "ema" for the moving average (the last weights where the run kept no average, which is its limit for
    decay 0), "last" for the weights after the last step. Raises GenfastError, in one sentence, for a path that is no
    run, a truncated or corrupted file, another checkpoint format, or weights that do not belong to the config.
    """
    if weights not in ("ema", "last"):
        raise GenfastError(f"weights is {weights!r}: choose ema or last.")
    folder = find_checkpoint(path)
    state = read_state(folder)
    described = read_config(folder).get("model")
    if not isinstance(described, dict) or "name" not in described or "config" not in described:
        raise GenfastError(f"{folder / 'config.json'} is corrupted: it does not describe a model.")
    model = build_model(described["name"], config_from_dict(described["name"], described["config"]))
    averaged = weights == "ema" and "ema.safetensors" in state.get("files", {})
    read_model(folder, "ema" if averaged else "model", model, state)
    return model.eval()
