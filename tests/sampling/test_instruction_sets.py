"""The cpu engine and its kernels once more, in processes that may use fewer instructions.

What the engine refuses, and how it is interrupted, is the same code in all of them, and not run again.
"""

from pathlib import Path

import pytest

from genfast.testing import rerun_on

pytest.importorskip("genfast._C")

TESTS = Path(__file__).parents[1]
KERNELS = [TESTS / "kernels" / f"test_{name}.py" for name in ("pointwise", "attend", "categorical")]
KERNELS += [TESTS / "kernels" / "test_logistic_mixture_draw.py"]
ENGINE = [TESTS / "kernels" / "test_bfloat16_product.py", TESTS / "sampling" / "test_cpu_engine.py"]


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["generic", "avx2"])
def test_every_kernel(isa: str) -> None:
    rerun_on(isa, "", *map(str, KERNELS + ENGINE))


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["avx512", "avx512_bf16"])
def test_products_of_bfloat16(isa: str) -> None:
    """All else is the same from avx512 on."""
    rerun_on(isa, "bfloat16", *map(str, ENGINE))
