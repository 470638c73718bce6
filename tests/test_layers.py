"""Imports run one way: kernels -> ops -> nn -> likelihoods -> models -> compiler -> sampling -> data -> training ->
quality -> profiling -> cli."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = [
    "kernels",
    "ops",
    "nn",
    "likelihoods",
    "models",
    "compiler",
    "sampling",
    "data",
    "training",
    "quality",
    "profiling",
    "cli",
]
LEAVES = {"errors"}  # importable by all, import nothing of ours
TESTING = {"testing"}  # for tests and benchmarks: imports what it tests


def imported(path: Path) -> set[str]:
    """Names below genfast that a file imports, wherever in the file: "ops" for `from genfast.ops import x`."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import on line {node.lineno}; write genfast.something"
            modules = [node.module or ""] + [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        names |= {m.split(".")[1] for m in modules if m.startswith("genfast.") and len(m.split(".")) > 1}
    return names & (set(LAYERS) | LEAVES | TESTING)


def sources(layer: str) -> list[Path]:
    folder = ROOT / "kernels" if layer == "kernels" else ROOT / "genfast" / layer
    return sorted(folder.rglob("*.py"))


@pytest.mark.parametrize("layer", LAYERS)
def test_a_layer_imports_only_from_its_left(layer: str) -> None:
    allowed = set(LAYERS[: LAYERS.index(layer) + 1]) | LEAVES
    for path in sources(layer):
        wrong = imported(path) - allowed
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(sorted(wrong))}, which comes after {layer}"


def test_leaves_import_nothing_of_ours() -> None:
    assert not imported(ROOT / "genfast" / "errors.py")


def test_every_package_has_a_place() -> None:
    packages = {p.parent.name for p in (ROOT / "genfast").glob("*/__init__.py")}
    assert packages <= set(LAYERS) | TESTING


def test_the_guard_sees_an_arrow_that_points_back(tmp_path: Path) -> None:
    bad = tmp_path / "bad.py"
    bad.write_text("def f():\n    from genfast.training import loop\n")
    assert imported(bad) == {"training"}


NATIVE = [p for p in sorted((ROOT / "kernels").rglob("*")) if p.suffix in (".h", ".cpp", ".cu", ".cuh")]


@pytest.mark.parametrize("path", NATIVE, ids=lambda p: str(p.name))
def test_kernels_know_no_framework(path: Path) -> None:
    """kernels/ reads the same whichever framework calls it: no torch, no pybind11, and on a CPU no C++ library
    templates."""
    includes = re.findall(r'#include\s+[<"]([^>"]+)', path.read_text())
    assert not [i for i in includes if i.startswith(("torch", "ATen", "c10", "pybind11"))]
    if path.suffix in (".cpp", ".h"):
        assert not [i for i in includes if not i.endswith(".h")]


def test_engines_and_models_are_apart() -> None:
    """A model is a plain module: it never learns how it will be sampled."""
    for path in sources("models"):
        assert "sampling" not in imported(path)
