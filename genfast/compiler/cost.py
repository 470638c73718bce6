"""What a plan costs: cells, FLOPs and bytes, from the plan alone."""

from dataclasses import dataclass

import numpy as np

from genfast.compiler.plan import Kernel, Plan, kernel_reads
from genfast.compiler.program import Attend, Linear, Read, Reduce

# Operations that need an exponential, a logarithm or as long a polynomial.
EXPONENTIALS = {"exp", "expm1", "log", "log1p", "tanh", "sigmoid", "softplus", "sin", "cos", "erf"}


@dataclass(frozen=True)
class KernelCost:
    """Of one kernel, for one image, except for launches, weights and weight_reads, which are the same for any batch.

    read_numbers: numbers fetched from the caches of values, taps outside the image left out; stored_numbers: written
    there. Both count a number as often as it is moved. exponentials: exp, log, tanh and the like.
    """

    launches: int
    positions: int
    flops: int
    exponentials: int
    weights: int
    weight_reads: int
    read_numbers: int
    stored_numbers: int


@dataclass(frozen=True)
class Cost:
    """For one image, except where it says otherwise.

    steps: kernel launches (the same for any batch). cells: numbers computed and stored. flops: multiplications and
    additions in matrix products and attention; taps that fall outside the image are not counted. cache_numbers: numbers
    held for later steps. weight_numbers: weights of all matrix products. weight_reads: weights that go by when every
    launch reads its own once.
    """

    steps: int
    cells: int
    flops: int
    cache_numbers: int
    weight_numbers: int
    weight_reads: int


def kernel_cost(kernel: Kernel, order: np.ndarray, launches: int) -> KernelCost:
    """order: the positions that are computed, each once."""

    def there(read: Read) -> int:
        return int((read.at[order] >= 0).sum())

    weights = flops = 0
    exponentials = sum(i.width for i in kernel.body if i.op in EXPONENTIALS) * len(order)
    if isinstance(kernel.head, Linear):
        weights = sum(tap.weight.size for tap in kernel.head.taps)
        flops = sum(2 * tap.weight.size * there(tap.read) for tap in kernel.head.taps)
    elif isinstance(kernel.head, Reduce) and kernel.head.kind in ("softmax", "log_softmax"):
        exponentials += sum(read.width for read in kernel.head.reads) * len(order)
    elif isinstance(kernel.head, Attend):  # scores and weighted sums, over the keys and values that are there
        head = kernel.head
        flops = 2 * (head.key.width * there(head.key) + head.value.width * there(head.value))
        exponentials += head.heads * there(head.key)
    return KernelCost(
        launches=launches,
        positions=len(order),
        flops=flops,
        exponentials=exponentials,
        weights=weights,
        weight_reads=weights * launches,
        read_numbers=sum(read.width * there(read) for read in kernel_reads(kernel)),
        stored_numbers=len(order) * sum(store.width for store in kernel.stores),
    )


def kernel_costs(plan: Plan) -> list[KernelCost]:
    """One for each kernel of the plan, in their order."""
    launches = np.bincount(plan.launch_kernel, minlength=len(plan.kernels))
    return [
        kernel_cost(kernel, order, int(count))
        for kernel, order, count in zip(plan.kernels, plan.order, launches, strict=True)
    ]


def cost(plan: Plan) -> Cost:
    kernels = kernel_costs(plan)
    return Cost(
        steps=len(plan.launch_tick),
        cells=sum(k.stored_numbers for k in kernels),
        flops=sum(k.flops for k in kernels),
        cache_numbers=sum(count * v.channels for v, count in zip(plan.values, plan.slot_count, strict=True)),
        weight_numbers=sum(k.weights for k in kernels),
        weight_reads=sum(k.weight_reads for k in kernels),
    )
