"""A wheel holds every package, kernels included, and the package imports and runs where no extension was built."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

CHECK = """
import genfast, pkgutil, importlib, torch
from genfast import ops
for module in pkgutil.walk_packages(genfast.__path__, "genfast."):
    name = module.name.split(".")[-1]
    if not name.startswith("triton_") and name not in ("_C", "__main__"):  # those import triton
        importlib.import_module(module.name)
import genfast.kernels.masked_conv2d.reference
assert "site" in genfast.__file__, genfast.__file__
print(ops.masked_conv2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3)).sum().item())
from genfast.ops.backends import report
print(report())
"""


@pytest.mark.slow
def test_wheel_without_a_compiler_imports_and_runs_on_reference_code(tmp_path: Path) -> None:
    tools = tmp_path / "bin"  # a PATH without any compiler
    tools.mkdir()
    environment = {**os.environ, "PATH": str(tools), "CXX": "no-such-compiler"}
    # A copy of what git would give, so that the build leaves nothing in the working tree.
    source = tmp_path / "source"
    listed = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            if (ROOT / name).is_symlink():
                (source / name).symlink_to(os.readlink(ROOT / name))
            else:
                (source / name).write_bytes((ROOT / name).read_bytes())
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    built = subprocess.run(
        [*pip, "wheel", "-v", "--no-deps", "--no-build-isolation", "-w", str(tmp_path), str(source)],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    assert "installed without compiled kernels (no C++ compiler was found)" in built.stdout + built.stderr
    (wheel,) = tmp_path.glob("genfast-*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for path in [*(ROOT / "genfast").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")]:
        relative = path.relative_to(ROOT)
        name = f"genfast/{relative}" if relative.parts[0] == "kernels" else str(relative)
        assert name in names, f"{name} is missing from the wheel"
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = f"import sys; sys.path = [{str(site)!r}] + [p for p in sys.path if {str(ROOT)!r} != p]\n" + CHECK
    # -S keeps the editable install's import hook out; the dependencies come from sys.path below.
    paths = [p for p in sys.path if p.endswith("site-packages")]
    run = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("29.0")  # ones, 3x3, mask B: taps that lie in the image: 9 + 6 + 6 + 4 + 4
    assert "none: the extension is not built" in run.stdout
