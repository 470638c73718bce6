"""A profile: what ran, how long it took, and how near that comes to what this machine was measured to do.

The *floor* of a row is the time that its work takes at a ceiling, one for each resource: arithmetic (FLOPs at the peak
of a matrix product, exponentials at their rate) and the bandwidths. The largest floor is what bounds the row; where it
explains less than a third of the time nothing of that sort does, and the row is bound by latency: too little work in a
call to be worth the call, steps that wait for each other, or an inefficient kernel.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from genfast.profiling.ceilings import Ceilings

LATENCY = "latency"
EXPLAINED = 1 / 3  # of a row's time: what a floor must reach to be called its bound
BOUNDS = {
    "arithmetic": "multiplications, additions and exponentials",
    "weight bandwidth": "weights read again for every launch",
    "activation bandwidth": "activations read and written",
    "bandwidth": "numbers read and written",
    LATENCY: "calls with too little work, waiting, or an inefficient kernel",
}


@dataclass(frozen=True)
class Row:
    """One operator, or one step of a sampler's program.

    seconds: wall-clock time of all calls; where several threads work, each at its own part, the mean of their times.
    flops, exponentials: of all calls. traffic: bytes of all calls by the name of the bandwidth that carries them.
    detail: for whoever wants to know more, by name; seconds where the name says nothing else.
    floors: seconds at the ceilings by resource, filled in by ``against``.
    """

    name: str
    calls: int
    seconds: float
    flops: int
    exponentials: int
    traffic: dict[str, int]
    working_set: int = 0
    """Bytes that one call goes over, on all threads together: which ceiling of bandwidth holds."""
    detail: dict[str, float] = field(default_factory=dict)
    floors: dict[str, float] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        return sum(self.traffic.values())

    @property
    def flop_rate(self) -> float:
        """FLOP/s."""
        return self.flops / self.seconds if self.seconds else 0.0

    @property
    def byte_rate(self) -> float:
        """Bytes a second."""
        return self.bytes / self.seconds if self.seconds else 0.0

    @property
    def percent(self) -> float:
        """Of the ceiling: the largest floor over the time, in percent."""
        return 100 * max(self.floors.values(), default=0.0) / self.seconds if self.seconds else 0.0

    @property
    def bound(self) -> str:
        if not self.floors or self.percent < 100 * EXPLAINED:
            return LATENCY
        return max(self.floors, key=self.floors.__getitem__)


@dataclass(frozen=True)
class Profile:
    """title, unit: "drawing 16 images", one of which is "image". rows: by time, longest first. seconds: the whole,
    without instruments. device_seconds: of it, in operators or in the engine; the rest is the host: Python between
    them. notes: sentences that a reader needs. machine: what the numbers depend on."""

    title: str
    what: str
    row_kind: str  # "step" or "operator"
    images: int
    pixels: int  # of an image
    rows: tuple[Row, ...]
    seconds: float
    device_seconds: float
    ceilings: Ceilings
    machine: dict[str, object]
    notes: tuple[str, ...] = ()

    @property
    def host_seconds(self) -> float:
        return max(0.0, self.seconds - self.device_seconds)

    @property
    def measured(self) -> float:
        """Seconds of all rows."""
        return sum(row.seconds for row in self.rows)

    def share(self, row: Row) -> float:
        return row.seconds / self.measured if self.measured else 0.0

    def by_bound(self) -> dict[str, float]:
        """The share of the time in rows with this bound, largest first."""
        shares: dict[str, float] = {}
        for row in self.rows:
            shares[row.bound] = shares.get(row.bound, 0.0) + self.share(row)
        return dict(sorted(shares.items(), key=lambda item: -item[1]))


def against(rows: Sequence[Row], ceilings: Ceilings, bandwidths: dict[str, Callable[[Row], float]]) -> tuple[Row, ...]:
    """The rows with their floors, longest first. bandwidths: bytes a second for each kind of traffic of a row."""
    found = []
    for row in rows:
        floors = {name: size / bandwidths[name](row) for name, size in row.traffic.items() if size}
        arithmetic = row.flops / ceilings.peak + row.exponentials / ceilings.exponentials
        if arithmetic:
            floors["arithmetic"] = arithmetic
        found.append(replace(row, floors=floors))
    return tuple(sorted(found, key=lambda row: -row.seconds))
