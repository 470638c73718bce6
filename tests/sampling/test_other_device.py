"""Models that are not on the CPU: the compiler and the engines that run anywhere, on a device that refuses to mix its
tensors with those of the CPU, as a GPU does. tests/emulation/device.cpp makes one of the CPU itself."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.kernels.apart import run_in_process
from tests.kernels.emulation import ROOT, needs_gcc
from tests.sampling.other_device_checks import names

CHECKS = Path(__file__).parent / "other_device_checks.py"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each check said, in a process of its own: PyTorch has one such device, and it never goes away."""
    library = tmp_path_factory.mktemp("device") / "device.so"
    torch_root = Path(torch.__file__).parent
    abi = f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"
    command = ["g++", "-std=c++20", "-O0", "-fPIC", "-shared", abi]
    command += [f"-I{torch_root / 'include'}", f"-I{torch_root / 'include/torch/csrc/api/include'}"]
    command += [str(ROOT / "tests" / "emulation" / "device.cpp"), "-o", str(library), f"-L{torch_root / 'lib'}"]
    done = subprocess.run([*command, "-ltorch_cpu", "-lc10"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:3000]
    return run_in_process(CHECKS, [str(library)], {})


@needs_gcc
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the device is built for Linux")
@pytest.mark.parametrize("name", names())
def test_on_another_device(results: dict[str, str], name: str) -> None:
    assert not results[name], results[name]
