"""The intermediate representation: what a causal network computes, one vector at a time.

A *value* is a feature map: a vector of ``channels`` numbers at each of its ``positions``. All channels of a value read
the same pixels; where colours must be told apart, each colour's channels are a value of their own. A *step* computes
the vector at position q of one value from vectors of earlier values, found through tables: ``Read.at[q]`` is the
position it takes. Padding, shifts, crops, strides, dilation and upsampling are nothing but tables, so nothing
is ever moved, and one step can be computed at any one position by itself.

Everything is a plain frozen dataclass; ``str(program)`` is a listing.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

Table = np.ndarray  # int32 [Q]

# Elementwise operations, and how many arguments each takes: all that the engines know. The front end writes every other
# elementwise operator in terms of these. Truth values are 1 and 0; comparisons give them, "where" takes any number that
# is not 0 for true. "round" rounds halves to even; "remainder" has the sign of the divisor; "softplus" is ln(1 + e^x).
_UNARY = "neg abs exp expm1 log log1p sqrt rsqrt reciprocal tanh sigmoid relu softplus sin cos erf sign floor ceil"
_BINARY = "add sub mul div pow maximum minimum remainder eq ne lt le gt ge"
OPS: dict[str, int] = {
    **dict.fromkeys((_UNARY + " round trunc logical_not isnan").split(), 1),
    **dict.fromkeys(_BINARY.split(), 2),
    "where": 3,
}


@dataclass(frozen=True)
class Value:
    """A vector of ``channels`` numbers at each of ``positions`` places. layer: where the module computes it."""

    channels: int
    positions: int
    layer: str


@dataclass(frozen=True, eq=False)
class Read:
    """Channels start .. start + width - 1 of a value; for position q of the reader, those at position at[q].

    at[q] = -1: nothing is there; a Linear takes zeros (padding), any other step does not exist at q.
    """

    value: int
    start: int
    width: int
    at: Table


@dataclass(frozen=True, eq=False)
class Constant:
    """Numbers known when compiling: for position q the row ``rows[which[q]]``.  # float64 [U, width], int32 [Q]"""

    rows: np.ndarray
    which: Table


@dataclass(frozen=True, eq=False)
class Tap:
    """One product of a Linear: read [width] @ weight [width, out channels]."""

    read: Read
    weight: np.ndarray  # float64


@dataclass(frozen=True, eq=False)
class Linear:
    """out[q] = bias[q] + sum over taps of read(q) @ weight: convolutions of all kinds, and matrix products."""

    out: int
    taps: tuple[Tap, ...]
    bias: Constant


@dataclass(frozen=True, eq=False)
class Pointwise:
    """out[q] = op(args), number by number. op: a name in OPS. An argument of width 1 serves every channel."""

    out: int
    op: str
    args: tuple["Read | Constant", ...]


@dataclass(frozen=True, eq=False)
class Lookup:
    """out[q] = table[the whole number that read(q) holds]: embeddings.  # float64 [entries, out channels]"""

    out: int
    index: Read
    table: np.ndarray


@dataclass(frozen=True, eq=False)
class Reduce:
    """Something over all numbers of several vectors at q: "sum", "max", "min" (one number), or "standardize"
    (x - mean) / sqrt(variance + eps), "softmax", "log_softmax" (as many as there are, in the order of the reads)."""

    out: int
    kind: str
    reads: tuple[Read, ...]
    eps: float = 0.0


@dataclass(frozen=True, eq=False)
class Copy:
    """Puts a vector together: piece i goes to channels starts[i] ..., at the positions where it is (at >= 0)."""

    out: int
    starts: tuple[int, ...]
    pieces: tuple["Read | Constant", ...]


Step = Linear | Pointwise | Lookup | Reduce | Copy


def reads_of(step: Step) -> Iterator[Read]:
    """Every read of a step."""
    match step:
        case Linear():
            yield from (tap.read for tap in step.taps)
        case Pointwise():
            yield from (arg for arg in step.args if isinstance(arg, Read))
        case Lookup():
            yield step.index
        case Reduce():
            yield from step.reads
        case Copy():
            yield from (piece for piece in step.pieces if isinstance(piece, Read))


@dataclass(frozen=True, eq=False)
class Draw:
    """Sub-pixel (channel c, pixel p) is drawn from the parameters params(p): 1 logit (bernoulli) or one per level."""

    params: Read


@dataclass(frozen=True, eq=False)
class Program:
    """A causal network as steps in an order in which they can run.

    inputs[c]: the value that holds channel c's levels (as numbers 0 .. levels - 1), one channel, position = pixel.
    conditions[i]: the value that holds the i-th tensor of the condition, [n] or [n, D] at one position, [n, C, ...]
    at as many positions as there are places.
    """

    image_shape: tuple[int, int, int]
    levels: int
    likelihood: str
    values: tuple[Value, ...]
    inputs: tuple[int, ...]
    conditions: tuple[int, ...]
    steps: tuple[Step, ...]
    draws: tuple[Draw, ...]  # one per channel
    notes: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        from genfast.compiler.listing import list_program

        return list_program(self)


def structure(program: Program) -> bytes:
    """A digest of everything but the numbers: equal for two programs that do the same steps with other weights."""
    digest = hashlib.sha256(repr((program.values, program.inputs, program.conditions)).encode())
    for step in program.steps:
        kind = getattr(step, "op", getattr(step, "kind", ""))
        digest.update(f"{type(step).__name__} {step.out} {kind}".encode())
        for read in reads_of(step):
            digest.update(f"{read.value} {read.start} {read.width}".encode() + read.at.tobytes())
    for draw in program.draws:
        digest.update(f"{draw.params.value} {draw.params.start}".encode() + draw.params.at.tobytes())
    return digest.digest()
