"""Programs made by hand that hold every kind of step, for tests of engines."""

from collections.abc import Callable
from typing import Any

import numpy as np

from genfast.compiler.program import (
    Attend,
    Constant,
    Copy,
    Draw,
    Linear,
    Lookup,
    Pointwise,
    Program,
    Read,
    Reduce,
    Step,
    Tap,
    Value,
)


class Maker:
    """A program in the making, over the pixels of an image."""

    def __init__(self, seed: int, image_shape: tuple[int, int, int]) -> None:
        self.rng = np.random.default_rng(seed)
        self.height, self.width = image_shape[1:]
        self.pixels = self.height * self.width
        self.values: list[Value] = []
        self.steps: list[Step] = []

    def value(self, channels: int, positions: int | None = None) -> int:
        self.values.append(
            Value(channels, self.pixels if positions is None else positions, f"layer {len(self.values)}")
        )
        return len(self.values) - 1

    def shifted(self, dy: int, dx: int) -> np.ndarray:
        y, x = np.divmod(np.arange(self.pixels), self.width)
        inside = (y + dy >= 0) & (x + dx >= 0) & (x + dx < self.width)
        return np.where(inside, (y + dy) * self.width + x + dx, -1).astype(np.int32)

    def read(self, value: int, start: int = 0, width: int | None = None, at: np.ndarray | None = None) -> Read:
        width = self.values[value].channels - start if width is None else width
        return Read(value, start, width, self.shifted(0, 0) if at is None else at)

    def constant(self, rows: int, width: int) -> Constant:
        numbers = self.rng.standard_normal((rows, width))
        return Constant(numbers, self.rng.integers(0, rows, self.pixels).astype(np.int32))

    def linear(self, reads: list[Read], channels: int, biases: int = 1) -> int:
        depth = sum(r.width for r in reads)
        taps = [Tap(r, self.rng.standard_normal((r.width, channels)) / depth**0.5) for r in reads]
        out = self.value(channels)
        self.steps.append(Linear(out, tuple(taps), self.constant(biases, channels)))
        return out

    def pointwise(self, op: str, *args: Read | Constant) -> int:
        width = max(a.width if isinstance(a, Read) else a.rows.shape[1] for a in args)
        out = self.value(width)
        self.steps.append(Pointwise(out, op, args))
        return out

    def step(self, make: Callable[..., Step], channels: int, *args: Any) -> int:
        out = self.value(channels)
        self.steps.append(make(out, *args))
        return out


def attention(m: Maker, h: int, wide: int, before: list[tuple[int, int]]) -> list[int]:
    """Two values made by attention: one of two heads with a bias, terms that are missing and a place where nothing is
    asked; and a plain one."""
    window = np.stack([m.shifted(*d) for d in before], 1)  # near enough for a wavefront; the first pixel sees nothing
    asked = m.shifted(0, 0)
    asked[m.pixels // 2] = -1
    terms = np.where(m.rng.random(window.shape) < 0.2, -1, window).astype(np.int32)
    bias = m.rng.standard_normal((m.pixels, 2, len(before)))
    query, key, value = m.read(h, 2, 10, asked), m.read(wide, 1, 10, window), m.read(h, 3, 6, terms)
    attended = m.step(Attend, 6, query, key, value, 2, 0.7, bias)
    plain = m.step(Attend, 5, m.read(attended), m.read(wide, 20, 6, window), m.read(wide, 0, 5, window), 1, 1.0)
    return [attended, plain]


def attends_to_all(seed: int, image_shape: tuple[int, int, int], heads: int, depth: int, width: int) -> Program:
    """A causal program of one channel in which every pixel attends to all earlier ones, the first to nothing. What it
    finds are the logits, of heads * width levels."""
    m = Maker(seed, image_shape)
    levels, level = heads * width, m.value(1)
    one = Constant(np.array([[2.0**-4]]), np.zeros(m.pixels, np.int32))
    scaled = m.pointwise("mul", m.read(level), one)
    query = m.linear([m.read(scaled, at=m.shifted(*d)) for d in ((-1, 0), (0, -1))], heads * depth, biases=5)
    key, value = (m.linear([m.read(scaled)], heads * n, biases=5) for n in (depth, width))
    q, j = np.indices((m.pixels, m.pixels))
    earlier = np.where(j < q, j, -1).astype(np.int32)
    terms = np.where(m.rng.random(earlier.shape) < 0.1, -1, earlier).astype(np.int32)
    bias = m.rng.standard_normal((m.pixels, heads, m.pixels))
    reads = (m.read(query), m.read(key, at=earlier), m.read(value, at=terms))
    logits = m.step(Attend, levels, *reads, heads, 0.7, bias)
    draws = (Draw(m.read(logits)),)
    return Program(image_shape, levels, "categorical", tuple(m.values), (level,), (), tuple(m.steps), draws)


def every_kind(
    seed: int,
    image_shape: tuple[int, int, int],
    levels: int,
    likelihood: str = "categorical",
    hidden: int = 19,
) -> Program:
    """A causal program with every kind of step, odd widths, taps that are not there and biases that differ."""
    m = Maker(seed, image_shape)
    channels = image_shape[0]
    inputs = [m.value(1) for _ in range(channels)]
    condition = m.value(3, 1)
    half, one = (Constant(np.array([[c]]), np.zeros(m.pixels, np.int32)) for c in (levels / 2, 1.0))
    scaled = [m.pointwise("sub", m.read(m.pointwise("div", m.read(v), half)), one) for v in inputs]
    embedded = m.step(Lookup, 5, m.read(inputs[0]), m.rng.standard_normal((levels, 5)))
    before = [(-1, -1), (-1, 0), (-1, 1), (0, -1)]
    given = m.linear([Read(condition, 0, 3, np.zeros(m.pixels, np.int32))], hidden)
    h = m.linear(
        [m.read(v, at=m.shifted(*d)) for d in before for v in (*scaled, embedded)] + [m.read(given)],
        2 * hidden,
        biases=3,
    )
    gate = m.pointwise("sigmoid", m.read(h, hidden))
    h = m.pointwise("mul", m.read(m.pointwise("tanh", m.read(h, 0, hidden))), m.read(gate))
    for _ in range(2):
        r = m.pointwise("relu", m.read(h))
        r = m.linear([m.read(r, at=m.shifted(*d)) for d in ((-1, 0), (0, -1), (0, 0))], hidden)
        h = m.pointwise("add", m.read(r), m.read(h))
    wide = m.linear([m.read(h)], 33, biases=2)
    normal = m.step(Reduce, 33 + hidden, "standardize", (m.read(wide), m.read(h)), 1e-5)
    soft = m.step(Reduce, hidden, "softmax", (m.read(normal, 3, hidden),))
    logs = m.step(Reduce, 7, "log_softmax", (m.read(normal, 0, 7),))
    top = m.step(Reduce, 1, "max", (m.read(wide), m.read(normal, 1, 2)))
    low = m.step(Reduce, 1, "min", (m.read(wide),))
    total = m.step(Reduce, 1, "sum", (m.read(wide),))
    bounded = m.pointwise("where", m.read(m.pointwise("gt", m.read(wide), m.read(total))), m.read(top), m.read(low))
    attended = attention(m, h, wide, before)
    above, elsewhere = m.shifted(-1, 0), np.where(m.shifted(-1, 0) < 0, m.shifted(0, 0), -1).astype(np.int32)
    pieces = (m.constant(4, 3), m.read(soft), m.read(logs, 2, 4), m.read(bounded, 5, 9))
    pieces = (*pieces, m.read(h, at=above), m.read(h, at=elsewhere))
    starts = (0, 3, 3 + hidden, 7 + hidden, 16 + hidden, 16 + hidden)
    joined = m.step(Copy, 16 + 2 * hidden, starts, pieces)
    width = 1 if likelihood == "bernoulli" else levels
    draws = []
    for c in range(channels):
        own = [m.read(scaled[i]) for i in range(c)]
        seen = [m.read(joined), *map(m.read, attended)]
        squashed = m.pointwise("softplus", m.read(m.linear([*seen, *own], 24)))
        draws.append(Draw(m.read(m.linear([m.read(squashed), m.read(joined, 1, 17)], width))))
    return Program(
        image_shape, levels, likelihood, tuple(m.values), tuple(inputs), (condition,), tuple(m.steps), tuple(draws)
    )
