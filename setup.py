"""Builds the extension with CMake and Ninja. Everything else about the package is in pyproject.toml.

    pip install --no-build-isolation -e .

torch must be installed first: an isolated build would fetch another one, of several gigabytes. Without a C++ compiler
the package installs all the same and runs on its PyTorch reference code; `genfast info` says so.
GENFAST_BUILD=required turns that into an error, GENFAST_CUDA=AUTO|ON|OFF and GENFAST_CUDA_ARCHITECTURES are passed to
CMakeLists.txt.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent


class CMakeBuild(build_ext):
    def build_extension(self, ext: Extension) -> None:
        reason = self.why_not()
        if reason:
            if os.environ.get("GENFAST_BUILD") == "required":
                raise SystemExit(f"genfast: the extension cannot be built: {reason}.")
            print(
                f"genfast: installed without compiled kernels ({reason}); it will run on its PyTorch reference code.",
                file=sys.stderr,
            )
            ext.optional = True
            return
        import pybind11
        import torch

        target = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        build = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        configure = [
            "cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja", "-DCMAKE_BUILD_TYPE=Release",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            f"-DTORCH_DIR={Path(torch.__file__).parent}",
            f"-DTORCH_VERSION={torch.__version__}",
            f"-DCMAKE_INSTALL_PREFIX={target}",
        ]  # fmt: skip
        for option in ("GENFAST_CUDA", "GENFAST_CUDA_ARCHITECTURES"):
            if os.environ.get(option):
                configure.append(f"-D{option}={os.environ[option]}")
        target.mkdir(parents=True, exist_ok=True)
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", str(build)], check=True)
        subprocess.run(["cmake", "--install", str(build)], check=True)

    def why_not(self) -> str | None:
        if not any(shutil.which(c) for c in (os.environ.get("CXX", "c++"), "g++", "clang++")):
            return "no C++ compiler was found"
        for tool in ("cmake", "ninja"):
            if not shutil.which(tool):
                return f"{tool} was not found; pip install {tool}"
        for module in ("torch", "pybind11"):
            try:
                __import__(module)
            except ImportError:
                return f"{module} is not importable; install it first and use pip install --no-build-isolation"
        return None


# kernels/ lives at the top of the tree and is imported as genfast.kernels (in a checkout through the link
# genfast/kernels). Sub-packages are found, not listed: a hand list goes missing from the wheel.
def packages() -> list[str]:
    names = ["genfast"]
    for top, prefix in (("genfast", "genfast"), ("kernels", "genfast.kernels")):
        for init in sorted((ROOT / top).rglob("__init__.py"), key=str):
            parts = init.parent.relative_to(ROOT / top).parts
            if top == "genfast" and (not parts or parts[0] == "kernels"):
                continue
            names.append(".".join((prefix, *parts)))
    return names


setup(
    packages=packages(),
    package_dir={"genfast": "genfast", "genfast.kernels": "kernels"},
    package_data={"genfast": ["py.typed"]},
    ext_modules=[Extension("genfast._C", sources=[])],
    cmdclass={"build_ext": CMakeBuild},
)
