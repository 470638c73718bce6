"""The intermediate representation: what a causal network computes, one vector at a time.

A *value* is a feature map: a vector of ``channels`` numbers at each of its ``positions``. All channels of a value read
the same pixels; where colours must be told apart, each colour's channels are a value of their own. A *step* computes
the vector at position q of one value from vectors of earlier values, found through tables: ``Read.at[q]`` is the
position it takes. Padding, shifts, crops, strides, dilation and upsampling are nothing but tables, so nothing
is ever moved, and one step can be computed at any one position by itself.

A recurrence needs nothing more: its steps read *earlier positions* of values that they make themselves. Such steps are
a *scan*, which says what is earlier; whatever walks through a program goes through ``in_order``, which knows.

Everything is a plain frozen dataclass; ``str(program)`` is a listing.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

Table = np.ndarray  # int32 [Q]; of what is read at several positions [Q, J]

# Elementwise operations, and how many arguments each takes: all that the engines know. The front end writes every other
# elementwise operator in terms of these. Truth values are 1 and 0; comparisons give them, "where" takes any number that
# is not 0 for true. "round" rounds halves to even; "remainder" has the sign of the divisor; "softplus" is
# ln(1 + e^x); "elu" is x or, below 0, e^x - 1.
_UNARY = "neg abs exp expm1 log log1p sqrt rsqrt reciprocal tanh sigmoid relu elu softplus sin cos erf sign floor ceil"
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

    at[q] = -1: nothing is there; a Linear takes zeros (padding), and so do a Pointwise and the query of an Attend; any
    other step does not exist at q. The keys and values of an Attend are read at several positions: at[q, j].
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


@dataclass(frozen=True, eq=False)
class Attend:
    """Attention: out[q] = sum over j of softmax_j(scale * query(q) . key(q, j) + bias[q, j]) value(q, j), in ``heads``.

    key.at, value.at: [Q, J]. The softmax goes over the keys that are there (key.at[q, j] >= 0); where a value is not,
    its weight counts, and its term is zero. A q without a key gives zeros. Channels lie head by head: those of query
    and key are [heads, depth], those of value and of the result [heads, width]. bias: float64 [Q, heads, J], or None.
    """

    out: int
    query: Read
    key: Read
    value: Read
    heads: int
    scale: float
    bias: np.ndarray | None = None


Step = Linear | Pointwise | Lookup | Reduce | Copy | Attend


@dataclass(frozen=True, eq=False)
class Scan:
    """A recurrence: steps that read earlier positions of values that they make themselves.

    values: what these steps make. The steps stand next to each other in the program, and have as many positions as
    ``generation``: a step at q reads the values of its own scan only at positions of a smaller generation, or of the
    same one if an earlier step makes them. Nothing is asked of what it reads from outside.
    """

    values: tuple[int, ...]
    generation: Table

    @cached_property
    def waves(self) -> tuple[np.ndarray, ...]:
        """The positions of each generation, in the order of the generations."""
        order = np.argsort(self.generation, kind="stable")
        cuts = np.flatnonzero(np.diff(self.generation[order])) + 1
        return tuple(np.split(order, cuts)) if len(order) else ()


Positions = np.ndarray | slice


def walk(scans: Sequence[Scan | None]) -> Iterator[tuple[int, Positions]]:
    """Items in an order in which they can be computed, each with the positions to compute.

    scans: for each item the scan that it belongs to, or None: such an item comes with all its positions. Items of one
    scan, which stand next to each other, come generation by generation.
    """
    begin = 0
    while begin < len(scans):
        scan, end = scans[begin], begin + 1
        if scan is None:
            yield begin, slice(None)
        else:
            while end < len(scans) and scans[end] is scan:
                end += 1
            for wave in scan.waves:
                for item in range(begin, end):
                    yield item, wave
        begin = end


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
        case Attend():
            yield from (step.query, step.key, step.value)


def present(at: Table) -> tuple[np.ndarray, np.ndarray]:
    """The reads of a table that are there: which entry (position of the reader) each is of, and where it reads."""
    if at.ndim == 1:
        there = np.flatnonzero(at >= 0)
        return there, at[there]
    there, j = np.nonzero(at >= 0)
    return there, at[there, j]


def one_for_all(at: Table) -> np.ndarray | None:
    """Where entry j of every row reads, if all rows that have one read at the same place.  # [Q, J] -> [J] or None"""
    column = at.max(0, initial=-1)
    return column if bool(((at == column) | (at < 0)).all()) else None


def with_reads(step: Step, change: Callable[[Read], Read]) -> Step:
    """The step with every read replaced by another of the same width."""

    def changed(x: "Read | Constant") -> "Read | Constant":
        return change(x) if isinstance(x, Read) else x

    match step:
        case Linear():
            return replace(step, taps=tuple(replace(tap, read=change(tap.read)) for tap in step.taps))
        case Pointwise():
            return replace(step, args=tuple(map(changed, step.args)))
        case Lookup():
            return replace(step, index=change(step.index))
        case Reduce():
            return replace(step, reads=tuple(map(change, step.reads)))
        case Copy():
            return replace(step, pieces=tuple(map(changed, step.pieces)))
        case Attend():
            return replace(step, query=change(step.query), key=change(step.key), value=change(step.value))


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
    scans: tuple[Scan, ...] = field(default=())

    def __str__(self) -> str:
        from genfast.compiler.listing import list_program

        return list_program(self)


def scan_of(program: Program) -> dict[int, Scan]:
    """The scan that makes each value that one makes."""
    return {value: scan for scan in program.scans for value in scan.values}


def in_order(program: Program) -> Iterator[tuple[Step, Positions]]:
    """The steps in an order in which they can be computed, each with the positions to compute (see ``walk``)."""
    scans = scan_of(program)
    for i, positions in walk([scans.get(step.out) for step in program.steps]):
        yield program.steps[i], positions


def at_positions(step: Step, positions: Positions) -> Step:
    """The step that computes only some of the positions, and numbers them anew."""
    if isinstance(positions, slice):
        return step

    def fewer(x: Read | Constant) -> "Read | Constant":
        return replace(x, at=x.at[positions]) if isinstance(x, Read) else replace(x, which=x.which[positions])

    match step:
        case Linear():
            taps = tuple(replace(tap, read=fewer(tap.read)) for tap in step.taps)  # type: ignore[arg-type]
            return replace(step, taps=taps, bias=fewer(step.bias))  # type: ignore[arg-type]
        case Pointwise():
            return replace(step, args=tuple(map(fewer, step.args)))
        case Lookup():
            return replace(step, index=fewer(step.index))  # type: ignore[arg-type]
        case Reduce():
            return replace(step, reads=tuple(map(fewer, step.reads)))  # type: ignore[arg-type]
        case Copy():
            return replace(step, pieces=tuple(map(fewer, step.pieces)))
        case Attend():
            query, key, value = map(fewer, (step.query, step.key, step.value))
            bias = None if step.bias is None else step.bias[positions]
            return replace(step, query=query, key=key, value=value, bias=bias)  # type: ignore[arg-type]


def structure(program: Program) -> bytes:
    """A digest of everything but the numbers: equal for two programs that do the same steps with other weights."""
    digest = hashlib.sha256(repr((program.values, program.inputs, program.conditions)).encode())
    for step in program.steps:
        kind = getattr(step, "op", getattr(step, "kind", ""))
        digest.update(f"{type(step).__name__} {step.out} {kind} {getattr(step, 'heads', '')}".encode())
        for read in reads_of(step):
            digest.update(f"{read.value} {read.start} {read.width}".encode() + read.at.tobytes())
    for scan in program.scans:
        digest.update(repr(scan.values).encode() + scan.generation.tobytes())
    for draw in program.draws:
        digest.update(f"{draw.params.value} {draw.params.start}".encode() + draw.params.at.tobytes())
    return digest.digest()
