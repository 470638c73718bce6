"""Work: what one call of an operator must do at least, whoever carries it out. Each operator's formula is in its own
folder (work.py); what a time is compared with is in genfast/profiling."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """flops: multiplications and additions of products with weights (convolutions, matrix products, recurrences).
    exponentials: exp, log, tanh and their like, each of which costs about ten times as much as an addition.
    bytes: every number that goes in or comes out, once; what stays in registers between is free.

    Plain elementwise additions and multiplications are not counted: they hide behind the bytes.
    """

    flops: int = 0
    exponentials: int = 0
    bytes: int = 0

    def __add__(self, other: "Work") -> "Work":
        return Work(self.flops + other.flops, self.exponentials + other.exponentials, self.bytes + other.bytes)

    def __mul__(self, times: int) -> "Work":
        return Work(self.flops * times, self.exponentials * times, self.bytes * times)
