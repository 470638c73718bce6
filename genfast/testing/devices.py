"""What to do about a test that needs a machine's special part."""

import os

import pytest
import torch


def require_cuda() -> None:
    """Skips the test, with a reason, where there is no CUDA device; fails it under GENFAST_REQUIRE_CUDA=1."""
    if torch.cuda.is_available():
        return
    if os.environ.get("GENFAST_REQUIRE_CUDA") == "1":
        pytest.fail("GENFAST_REQUIRE_CUDA=1, but torch sees no CUDA device.")
    pytest.skip("needs a CUDA device")
