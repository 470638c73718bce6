"""Writing files so that nobody ever sees half of one."""

import json
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from genfast.errors import GenfastError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call ``write`` with a temporary name beside ``path``, then put the result in its place in one step."""
    temporary = path.with_name(f".{path.stem}-{uuid.uuid4().hex[:8]}{path.suffix}")
    try:
        write(temporary)
        sync(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk and would survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON object, readable and atomically."""
    text = json.dumps(values, indent=2, allow_nan=False) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises GenfastError when the file is missing or holds something else."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise GenfastError(f"{path} is missing: the folder is incomplete, use another copy or checkpoint.") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise GenfastError(f"{path} is truncated or corrupted (not JSON): use another copy or checkpoint.") from None
    if not isinstance(values, dict):
        raise GenfastError(f"{path} is corrupted (not a JSON object): use another copy or checkpoint.")
    return values
