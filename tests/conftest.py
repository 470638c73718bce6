"""What every test shares: NaN in uninitialised memory, one fixed seed, and where the real data sets are."""

import os
from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _deterministic() -> Iterator[None]:
    """torch.empty returns NaN (so that reading what nobody wrote shows), and every test starts from one seed.

    One thread: the sizes here are too small to gain from more. What threads must not change has tests of its own.
    """
    torch.set_num_threads(1)
    torch.set_flush_denormal(False)  # training turns it on, for good
    torch.manual_seed(0)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)


def pytest_report_header() -> str:
    from genfast.ops.backends import NO_EXTENSION, isa

    data = os.environ.get("GENFAST_DATA", "not set: tests on real data sets are skipped")
    return f"genfast: cpu kernels {NO_EXTENSION or isa()}; GENFAST_DATA {data}"
