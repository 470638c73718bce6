"""Parts of a tick: cells that a thread can compute without waiting for another's.

In a wavefront several rows of an image are under way at once. Within a tick they read nothing of each other, only what
earlier ticks made, and what was just drawn; so threads that share an image can each take some of the rows and meet once
a tick. Where all cells of a tick hang together there is one part, and threads must share out every single product. So
they do with "early" kernels: rows of a wavefront read each other's levels as soon as they are drawn.
"""

from collections.abc import Sequence

import numpy as np

from genfast.compiler.plan import Kernel, kernel_reads, makers
from genfast.compiler.program import present


def find_parts(kernels: Sequence[Kernel], ticks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """For each kernel the part of its tick that each position belongs to, numbered from 0 in each tick.

    ticks: when each kernel computes each position, below -1 for never (part 0). Cells belong together if one reads the
    other in the tick in which both are computed; those of early kernels are no reason.
    """
    first = np.cumsum([0, *map(len, ticks)])
    maker = makers(kernels)
    edges = []  # (reading cells, cells that they read)
    for k, kernel in enumerate(kernels):
        for read in kernel_reads(kernel):
            if read.value in maker and not kernels[maker[read.value]].early:
                m = maker[read.value]
                q, at = present(read.at)
                together = (ticks[k][q] >= -1) & (ticks[m][at] == ticks[k][q])
                if together.any():
                    edges.append((first[k] + q[together], first[m] + at[together]))
    label = spread(np.arange(first[-1]), edges)
    time = np.concatenate([*ticks, np.zeros(0, np.int64)])
    part = np.zeros(len(label), np.int64)
    computed = np.flatnonzero(time >= -1)
    found, inverse = np.unique(np.stack([time[computed], label[computed]], 1), axis=0, return_inverse=True)
    begins = np.searchsorted(found[:, 0], found[:, 0])  # where the parts of the same tick begin
    part[computed] = (np.arange(len(found)) - begins)[inverse.reshape(-1)]
    return [part[begin:end] for begin, end in zip(first[:-1], first[1:], strict=True)]


def spread(label: np.ndarray, edges: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The smallest label of all cells that hang together, for each of them."""
    while True:
        before = label.copy()
        for readers, read in [*edges, *reversed(edges)]:
            least = np.minimum(label[readers], label[read])
            np.minimum.at(label, readers, least)
            np.minimum.at(label, read, least)
        if np.array_equal(label, before):
            return label
