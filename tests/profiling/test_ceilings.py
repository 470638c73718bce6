"""Ceilings: which of the measured rates holds for a size. How high they are is the machine's affair."""

import pytest
import torch

from genfast.profiling import ceilings
from genfast.profiling.ceilings import Ceilings, at_least

MADE = Ceilings(2, "float32", ((256, 8.0), (512, 9.0)), ((10, 1.0), (100, 4.0)), ((10, 6.0), (100, 3.0)), 5.0)


def test_a_size_between_two_takes_the_smaller_one_or_anything_faster_beyond() -> None:
    rates = ((10, 6.0), (100, 3.0), (1000, 1.0))
    assert [at_least(rates, size) for size in (1, 10, 99, 100, 5000)] == [6, 6, 6, 3, 1]
    assert at_least(((10, 1.0), (100, 4.0)), 20) == 4  # overhead hid the smaller one's rate


def test_ceilings_are_the_best_that_was_seen() -> None:
    assert MADE.peak == 9
    assert MADE.bandwidth(20) == 6  # ten bytes a thread
    assert MADE.bandwidth(200) == 4
    assert MADE.read_bandwidth(100) == 3
    other = Ceilings(2, "float32", ((256, 9.5), (512, 1.0)), ((10, 2.0), (100, 1.0)), ((10, 1.0), (100, 1.0)), 4.0)
    both = MADE.best_of(other)
    assert both.products == ((256, 9.5), (512, 9.0))
    assert both.copies == ((10, 2.0), (100, 4.0))
    assert both.exponentials == 5


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_measuring(precision) -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        found = ceilings.measure(precision, more_reads=(3 << 20,), seconds=1e-3)
        assert torch.get_num_threads() == 2  # each rate is taken on one thread of its own
    finally:
        torch.set_num_threads(threads)
    assert found.threads == 2
    assert 3 << 20 in dict(found.reads)
    assert all(rate > 0 for _, rate in (*found.products, *found.copies, *found.reads))
    assert len(found.lines()) == len(found.products) + len(found.copies) + len(found.reads) + 1
