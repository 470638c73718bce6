"""Helpers for tests: how far a result may be from the truth, and the shapes that every backend must survive."""

from genfast.testing.cases import MASKED_CONV2D_CASES, MaskedConv2dCase
from genfast.testing.devices import require_cuda
from genfast.testing.instruction_sets import rerun_on
from genfast.testing.tolerance import assert_close_to_reference, error_budget, unit_roundoff

__all__ = [
    "MASKED_CONV2D_CASES",
    "MaskedConv2dCase",
    "assert_close_to_reference",
    "error_budget",
    "require_cuda",
    "rerun_on",
    "unit_roundoff",
]
