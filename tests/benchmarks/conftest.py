"""benchmarks/ is a folder of scripts, not a package: its modules are found as `genfast bench` finds them."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FOLDERS = (BENCHMARKS, Path(__file__).parent)


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    for folder in FOLDERS:
        monkeypatch.syspath_prepend(str(folder))
    yield
    for name, module in list(sys.modules.items()):  # "page" and "run" must not stay for others to import
        if "." not in name and Path(getattr(module, "__file__", None) or "/").parent in FOLDERS:
            del sys.modules[name]
