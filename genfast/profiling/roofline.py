"""The roofline: how fast each row ran, against what its mix of arithmetic and memory allows (Williams et al. 2009)."""

import math
from io import BytesIO
from typing import Any

import numpy as np

from genfast.profiling.ceilings import WORKING_SETS
from genfast.profiling.profile import LATENCY, Profile, Row
from genfast.profiling.units import size_name

COLOURS = {
    "arithmetic": "#4285f4",
    "weight bandwidth": "#ea4335",
    "activation bandwidth": "#fbbc04",
    "bandwidth": "#ea4335",
    LATENCY: "#777777",
}
NAMED = 8  # rows with a name beside their point: the ones that take longest


def draw(profile: Profile) -> Any:
    """A matplotlib figure, one point a row: rows with products on the left, by FLOPs a byte; rows that only move
    numbers on the right, by the bytes of a call. The area of a point is its share of the time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 5.5), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    products = [row for row in profile.rows if row.flops and row.bytes and row.seconds]
    movers = [row for row in profile.rows if not row.flops and row.bytes and row.seconds]
    _roofs(left, profile, products)
    _bandwidths(right, profile, movers)
    _points(left, profile, products, lambda row: (row.flops / row.bytes, row.flop_rate / 1e9))
    _points(right, profile, movers, lambda row: (row.bytes / max(row.calls, 1), row.byte_rate / 1e9))
    left.set(xlabel="FLOPs a byte", ylabel="GFLOP/s", title=f"{profile.title}, {profile.what}: with products")
    right.set(xlabel="bytes a call", ylabel="GB/s", title="without products")
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.grid(alpha=0.25, which="both")
        axes.legend(fontsize=8, loc="lower right")
    return figure


def _roofs(axes: Any, profile: Profile, rows: list[Row]) -> None:
    ceilings = profile.ceilings
    intensities = [row.flops / row.bytes for row in rows] or [1.0]
    x = np.geomspace(min(0.1, *intensities) / 2, max(100.0, *intensities) * 2, 200)
    for size, style in zip(WORKING_SETS, ("-", "-.", "--", ":"), strict=True):
        bandwidth = ceilings.bandwidth(size * ceilings.threads)
        label = f"{bandwidth / 1e9:.0f} GB/s, {size_name(size)} a thread"
        axes.plot(x, np.minimum(ceilings.peak, x * bandwidth) / 1e9, "k" + style, linewidth=1, label=label)
    axes.annotate(
        f"{ceilings.peak / 1e9:.0f} GFLOP/s", (x[-1], ceilings.peak / 1e9), fontsize=8, ha="right", va="bottom"
    )


def _bandwidths(axes: Any, profile: Profile, rows: list[Row]) -> None:
    sizes = [row.bytes / max(row.calls, 1) for row in rows] or [1e3]
    x = np.geomspace(min(1e3, *sizes) / 2, max(1e8, *sizes) * 2, 400)
    y = [profile.ceilings.bandwidth(int(size)) / 1e9 for size in x]
    axes.plot(x, y, "k-", linewidth=1, label="the better of read and copy")


def _points(axes: Any, profile: Profile, rows: list[Row], place: Any) -> None:
    for bound, colour in COLOURS.items():
        mine = [row for row in rows if row.bound == bound]
        if mine:
            xs, ys = zip(*map(place, mine), strict=True)
            areas = [15 + 800 * profile.share(row) for row in mine]
            axes.scatter(xs, ys, s=areas, c=colour, alpha=0.6, label=f"bound by {bound}", edgecolors="none")
    rank = {id(row): i + 1 for i, row in enumerate(profile.rows)}  # several rows may have one name
    near: dict[tuple[int, ...], list[Row]] = {}  # points whose names would cover each other share a label of numbers
    for row in rows[:NAMED]:
        near.setdefault(tuple(round(6 * math.log10(number)) for number in place(row)), []).append(row)
    for group in near.values():
        name = group[0].name.partition(": ")[0][:28] if len(group) == 1 else ""
        label = f"{', '.join(str(rank[id(row)]) for row in group)} {name}"
        axes.annotate(label, place(group[0]), fontsize=7, xytext=(6, 3), textcoords="offset points")


def png(profile: Profile) -> bytes:
    """The figure as a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    out = BytesIO()
    FigureCanvasAgg(draw(profile)).print_png(out)
    return out.getvalue()
