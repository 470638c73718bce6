"""Where data files are looked for, and how they are downloaded when they are nowhere.

The places, in order: `data_dir` (--data-dir), the folder named by the environment variable GENFAST_DATA, the user's
cache. In each, the folder itself and the usual sub-folders of the data set. Downloads go to the cache; pooch writes
them under a temporary name, compares the published checksum and only then moves them to their own.
"""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pooch

from genfast.errors import GenfastError

VARIABLE = "GENFAST_DATA"
_TIMEOUT = 30  # seconds without a byte from the server, not for the whole download


@dataclass(frozen=True)
class Remote:
    """A file that can be downloaded: its name, the addresses to try in order, and "md5:..." or "sha256:..."."""

    name: str
    urls: tuple[str, ...]
    checksum: str


def cache() -> Path:
    """The user's cache folder, such as ~/.cache/genfast. It need not exist."""
    return Path(pooch.os_cache("genfast"))


def folders(subfolders: Sequence[str], data_dir: str | Path | None) -> list[Path]:
    """The existing folders to look in, best first: each place, then its `subfolders`.

    Raises GenfastError if data_dir or GENFAST_DATA names something that is not a folder.
    """
    places = []
    for origin, place in (("The data folder", data_dir), (VARIABLE, os.environ.get(VARIABLE))):
        if not place:
            continue
        path = Path(place).expanduser()
        if not path.is_dir():
            raise GenfastError(f"{origin} {path} is not a folder: name one that exists.")
        places.append(path)
    places.append(cache())
    candidates = [place / sub for place in places for sub in ("", *subfolders)]
    return [folder for folder in candidates if folder.is_dir()]


def first_file(folder: Path, names: Iterable[str]) -> Path | None:
    """The first of `names` that is a file in `folder`, or None."""
    return next((folder / name for name in names if (folder / name).is_file()), None)


def missing(what: str, names: Iterable[str], data_dir: str | Path | None, why: str) -> GenfastError:
    """The error for a data set that is nowhere: what was looked for, where, why it was not downloaded, what to do."""
    looked = [str(place) for place in (data_dir, os.environ.get(VARIABLE), cache()) if place]
    return GenfastError(
        f"{what} was not found: no {' or '.join(names)} in {', '.join(looked)} or the usual sub-folders, and {why}; "
        f"put the files in a folder and name it with --data-dir or {VARIABLE}."
    )


def fetch(remote: Remote, subfolder: str) -> Path:
    """Download a file to the cache, or find it there, and return its path once its checksum has matched.

    Raises OSError, its text the reason, if no address answers or the cache cannot be written; GenfastError if what
    came has another checksum.
    """
    pooch.get_logger().setLevel("WARNING")  # errors are one sentence; the progress bar says what is being downloaded
    folder = cache() / subfolder
    failure: OSError | None = None
    for url in remote.urls:
        try:
            path = pooch.retrieve(
                url,
                known_hash=remote.checksum,
                fname=remote.name,
                path=folder,
                downloader=pooch.HTTPDownloader(timeout=_TIMEOUT, progressbar=True),
            )
            return Path(path)
        except OSError as error:  # all of requests' errors are OSErrors
            failure = error
        except ValueError:
            raise GenfastError(
                f"{remote.name} from {url} does not have its published checksum ({remote.checksum}): "
                f"nothing was kept; try again later, or put a good copy in {folder}."
            ) from None
    reason = getattr(failure, "strerror", None) or type(failure).__name__
    raise OSError(f"the download of {remote.name} failed ({reason})")
