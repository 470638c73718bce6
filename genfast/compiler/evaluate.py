"""What a Program means, written to be read: every step for whole images at once (in a recurrence, for a generation at
once), in float64 unless told otherwise.

It is the oracle of the compiler's self-check and of its tests; engines compute the same cells one by one.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from genfast.compiler.program import (
    Attend,
    Constant,
    Copy,
    Linear,
    Lookup,
    Pointwise,
    Program,
    Read,
    Reduce,
    Step,
    at_positions,
    in_order,
    one_for_all,
    reads_of,
    scan_of,
)
from genfast.kernels.attend.reference import attend
from genfast.kernels.pointwise.reference import TORCH_OPS
from genfast.kernels.reduce.reference import reduce

ROWS = 64  # positions of an Attend that are worked on at a time, for the sake of memory


def evaluate(
    program: Program, images: Tensor, conditions: Sequence[Tensor] = (), dtype: torch.dtype = torch.float64
) -> list[Tensor]:
    """The likelihood's parameters of every sub-pixel: for each channel [B, width, H * W].

    images: levels [B, C, H, W]; conditions: [B, ...], as the module takes them.
    """
    values: dict[int, Tensor] = {}  # [B, positions, channels]
    for c, value in enumerate(program.inputs):
        values[value] = images[:, c].to(dtype).flatten(1)[:, :, None]
    for value, condition in zip(program.conditions, conditions, strict=True):
        values[value] = condition_table(condition).to(dtype)
    order, scans = list(in_order(program)), scan_of(program)
    first = {scans[step.out]: i for i, (step, _) in reversed(list(enumerate(order))) if step.out in scans}
    last_use = {r.value: i for i, (step, _) in enumerate(order) for r in reads_of(step)}
    keep = {d.params.value for d in program.draws} | {-1}
    for i, (step, positions) in enumerate(order):
        out = program.values[step.out]
        if isinstance(positions, slice):
            values[step.out] = apply(step, values, len(images), out.positions, out.channels, dtype)
        else:
            for v in scans[step.out].values if i == first[scans[step.out]] else ():
                shape = (len(images), out.positions, program.values[v].channels)
                values[v] = torch.full(shape, torch.nan, dtype=dtype)  # what reads a generation that is to come shows
            part = at_positions(step, positions)
            values[step.out][:, positions] = apply(part, values, len(images), len(positions), out.channels, dtype)
        for value in {r.value for r in reads_of(step)} - keep:
            if last_use[value] == i:
                del values[value]
    return [take(values, d.params).transpose(1, 2) for d in program.draws]


def condition_table(condition: Tensor) -> Tensor:
    """A condition [B], [B, D] or [B, D, ...] as the cells of its value.  # [B, positions, channels]"""
    if condition.dim() < 2:
        return condition.reshape(-1, 1, 1)
    return condition.flatten(2).transpose(1, 2) if condition.dim() > 2 else condition[:, None, :]


def apply(
    step: Step, values: dict[int, Tensor], batch: int, positions: int, channels: int, dtype: torch.dtype
) -> Tensor:
    """One step at all of its positions.  # [B, positions, channels]"""
    match step:
        case Linear():
            total = constant(step.bias, dtype).expand(batch, -1, channels).clone()
            for tap in step.taps:
                rows = take(values, tap.read).flatten(0, 1)
                total.view(-1, channels).addmm_(rows, torch.from_numpy(tap.weight).to(dtype))
            return total
        case Pointwise():
            args = [take(values, a) if isinstance(a, Read) else constant(a, dtype) for a in step.args]
            result: Tensor = TORCH_OPS[step.op](*args)
            return result.to(dtype).expand(batch, positions, channels)
        case Lookup():
            table = torch.from_numpy(step.table).to(dtype)
            index = take(values, step.index)[..., 0].long()
            return table[index.clamp(0, len(table) - 1)]
        case Reduce():
            return reduce(step.kind, torch.cat([take(values, r) for r in step.reads], 2), step.eps)
        case Copy():
            total = torch.full((batch, positions, channels), torch.nan, dtype=dtype)
            for start, piece in zip(step.starts, step.pieces, strict=True):
                if isinstance(piece, Constant):
                    rows = constant(piece, dtype)
                    total[:, :, start : start + rows.shape[2]] = rows
                else:
                    there = torch.from_numpy(piece.at >= 0)
                    total[:, there, start : start + piece.width] = take(values, piece)[:, there]
            return total
        case Attend():
            parts = np.split(np.arange(positions), range(ROWS, positions, ROWS))
            return torch.cat([attention(step, values, part, dtype) for part in parts]).transpose(0, 1)


def attention(step: Attend, values: dict[int, Tensor], positions: np.ndarray, dtype: torch.dtype) -> Tensor:
    """An Attend at some of its positions.  # [positions, B, channels]"""
    part = at_positions(step, positions)
    assert isinstance(part, Attend)
    query = take(values, part.query).transpose(0, 1)
    bias = None if part.bias is None else torch.from_numpy(part.bias).to(dtype)
    keys, terms_at = one_for_all(part.key.at), one_for_all(part.value.at)
    if keys is None or terms_at is None:
        keys, terms_at = part.key.at, part.value.at
    key, value = several(values, part.key, keys), several(values, part.value, terms_at)
    seen, terms = (torch.from_numpy(read.at >= 0) for read in (part.key, part.value))
    return attend(query, key, value, seen, part.heads, part.scale, bias, terms)


def several(values: dict[int, Tensor], read: Read, at: np.ndarray) -> Tensor:
    """What is read at places of any shape, zeros where there is nothing.  # [*at.shape, B, width]"""
    part = values[read.value][:, :, read.start : read.start + read.width].transpose(0, 1)
    rows = part[torch.from_numpy(np.maximum(at, 0)).long()]
    if (at < 0).any():
        rows = rows.masked_fill(torch.from_numpy(at < 0)[..., None, None], 0)
    return rows


def take(values: dict[int, Tensor], read: Read) -> Tensor:
    """A read at every position of its reader, zeros where there is nothing.  # [B, Q, width]"""
    part = values[read.value][:, :, read.start : read.start + read.width]
    if len(read.at) == part.shape[1] and np.array_equal(read.at, np.arange(len(read.at))):
        return part
    rows = part[:, torch.from_numpy(np.maximum(read.at, 0)).long()]
    if (read.at < 0).any():
        rows.index_fill_(1, torch.from_numpy(np.flatnonzero(read.at < 0)), 0)
    return rows


def constant(c: Constant, dtype: torch.dtype) -> Tensor:
    """[1, Q, width]"""
    return torch.from_numpy(c.rows[c.which])[None].to(dtype)
