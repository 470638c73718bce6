"""What a plan costs: cells, FLOPs and bytes, from the plan alone."""

from dataclasses import dataclass

import numpy as np

from genfast.compiler.plan import Plan
from genfast.compiler.program import Linear


@dataclass(frozen=True)
class Cost:
    """For one image, except where it says otherwise.

    steps: kernel launches (the same for any batch). cells: numbers computed and stored. flops: multiplications and
    additions in matrix products; taps that fall outside the image are not counted. cache_numbers: numbers held for
    later steps. weight_numbers: weights of all matrix products. weight_reads: weights that go by when every launch
    reads its own once.
    """

    steps: int
    cells: int
    flops: int
    cache_numbers: int
    weight_numbers: int
    weight_reads: int


def cost(plan: Plan) -> Cost:
    launches = np.bincount(plan.launch_kernel, minlength=len(plan.kernels))
    cells = flops = weights = reads = 0
    for kernel, order, count in zip(plan.kernels, plan.order, launches, strict=True):
        cells += len(order) * sum(store.width for store in kernel.stores)
        if isinstance(kernel.head, Linear):
            size = sum(tap.weight.size for tap in kernel.head.taps)
            weights += size
            reads += size * int(count)
            flops += sum(2 * tap.weight.size * int((tap.read.at[order] >= 0).sum()) for tap in kernel.head.taps)
    held = sum(count * v.channels for v, count in zip(plan.values, plan.slot_count, strict=True))
    return Cost(len(plan.launch_tick), cells, flops, held, weights, reads)
