"""A plain CPU never runs an instruction it lacks: nothing compiled for a wide instruction set may replace something
generic."""

import shutil
import subprocess
from pathlib import Path

import pytest

from genfast.testing.instruction_sets import ORDER

BUILD = Path(__file__).parents[2] / "build"
WEAK = {"W", "V", "u"}  # nm's letters for symbols of which the linker keeps any one copy


def weak_symbols(listing: str) -> list[str]:
    rows = [line.split(maxsplit=2) for line in listing.splitlines()]
    return [row[2] for row in rows if len(row) == 3 and row[1] in WEAK]


def test_kernel_objects_have_no_weak_symbols() -> None:
    objects = [path for isa in ORDER for path in BUILD.rglob(f"kernels_{isa}.dir/**/*.o")]
    if not objects or not shutil.which("nm"):
        pytest.skip("no object files of a build in this checkout, or no nm")
    for path in objects:
        listing = subprocess.run(["nm", "-C", str(path)], capture_output=True, text=True, check=True).stdout
        assert not weak_symbols(listing), path


def test_the_check_sees_a_weak_symbol() -> None:
    assert weak_symbols("0000000000000000 W std::vector<float>::size()\n0000000000000058 R panel_bytes") == [
        "std::vector<float>::size()"
    ]
