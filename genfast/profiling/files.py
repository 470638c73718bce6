"""The files of a profile, in one folder: report.html, roofline.png, profile.json, and trace.json where there is one."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from genfast.errors import GenfastError
from genfast.profiling import html, roofline
from genfast.profiling.profile import Profile, Row
from genfast.training.files import write_atomically, write_json

REPORT, ROOFLINE, NUMBERS, TRACE = "report.html", "roofline.png", "profile.json", "trace.json"


def check_folder(folder: Path) -> None:
    """Raises GenfastError, before any work, where nothing could be written."""
    if folder.exists() and not folder.is_dir():
        raise GenfastError(f"{folder} is a file: name a folder for the report with --out.")
    parent = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not parent.is_dir():
        raise GenfastError(f"{parent} is a file, so {folder} cannot be made: name another folder with --out.")


def as_json(profile: Profile) -> dict[str, Any]:
    """Everything in it as plain JSON values; of each row also what follows from its numbers."""
    values = asdict(profile)
    values["host_seconds"] = profile.host_seconds
    values["rows"] = [_row(profile, row) for row in profile.rows]
    return values


def _row(profile: Profile, row: Row) -> dict[str, Any]:
    found = {"share": profile.share(row), "bytes": row.bytes, "percent_of_ceiling": row.percent, "bound": row.bound}
    return asdict(row) | found


def write_profile(profile: Profile, folder: Path, trace: Any = None) -> list[str]:
    """Writes all files and returns their names. trace: called with the path to write a Chrome trace to, or None."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [REPORT, ROOFLINE, NUMBERS]
    if trace is not None:
        write_atomically(folder / TRACE, trace)
        names.append(TRACE)
    else:
        (folder / TRACE).unlink(missing_ok=True)  # of another profile
    write_json(folder / NUMBERS, as_json(profile))
    picture = roofline.png(profile)
    write_atomically(folder / ROOFLINE, lambda path: path.write_bytes(picture))
    text = html.report(profile, TRACE if trace is not None else "")
    write_atomically(folder / REPORT, lambda path: path.write_text(text, encoding="utf-8"))
    return names
