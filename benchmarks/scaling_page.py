"""The plots of scaling.py, one for each size, and a page that holds them all."""

import base64
import statistics
from collections.abc import Sequence
from html import escape
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from page import MORE_STYLE, table

from genfast.profiling.html import STYLE
from genfast.profiling.units import seconds, size_name

if TYPE_CHECKING:
    from scaling import Curve

COLOURS = {"drawing": "#4285f4", "training": "#ea4335"}


def plot(curves: Sequence["Curve"]) -> bytes:
    """Time and memory of all curves of one axis, as a PNG file. Dotted: in proportion to the first value."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    axis = curves[0].axis
    for curve in curves:
        colour = COLOURS[curve.kind]
        middle = [statistics.median(turns) for turns in curve.seconds]
        spread = [[m - min(t) for m, t in zip(middle, curve.seconds, strict=True)],
                  [max(t) - m for m, t in zip(middle, curve.seconds, strict=True)]]  # fmt: skip
        low, exponent, high = curve.exponents()
        label = f"{curve.kind}: exponent {exponent:.2f} ({low:.2f} to {high:.2f})"
        left.errorbar(curve.x, middle, yerr=spread, color=colour, marker="o", markersize=4, capsize=3, label=label)
        power = -1 if axis == "threads" else 1
        left.plot(curve.x, [middle[-1] * (x / curve.x[-1]) ** power for x in curve.x], ":", color=colour, linewidth=1)
        known = [(x, size / 1e6) for x, size in zip(curve.x, curve.memory, strict=True) if size > 0]
        if known:
            grown = curve.memory_exponent()
            label = curve.kind if grown is None else f"{curve.kind}: exponent {grown:.2f}"
            right.plot(*zip(*known, strict=True), color=colour, marker="o", markersize=4, label=label)
    left.set(title=f"time against {axis}", xlabel=axis, ylabel="seconds")
    right.set(title=f"memory against {axis}", xlabel=axis, ylabel="MB beyond what the process had")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.grid(alpha=0.25, which="both")
        if axes.get_legend_handles_labels()[0]:
            axes.legend(fontsize=8)
    out = BytesIO()
    FigureCanvasAgg(figure).print_png(out)
    return out.getvalue()


def write(curves: Sequence["Curve"], folder: Path, machine: dict[str, Any], sentences: Sequence[str]) -> list[Path]:
    """scaling.html and a picture for each axis."""
    facts = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in machine.items())
    about = [paragraph for sentence in sentences for paragraph in sentence.split("\n\n")]
    lines = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>genfast bench --scaling</title>",
        f"<style>{STYLE}{MORE_STYLE}</style><h1>genfast bench --scaling</h1><p>{escape(facts)}</p>",
        *(f"<p>{escape(' '.join(paragraph.split()))}</p>" for paragraph in about),
    ]
    written = []
    for axis in dict.fromkeys(curve.axis for curve in curves):
        mine = [curve for curve in curves if curve.axis == axis]
        picture = plot(mine)
        written.append(folder / f"scaling-{axis.split()[-1]}.png")
        written[-1].write_bytes(picture)
        rows = []
        for curve in mine:
            for x, turns, size in zip(curve.x, curve.seconds, curve.memory, strict=True):
                times = f"{seconds(statistics.median(turns))} ({seconds(min(turns))} - {seconds(max(turns))})"
                rows.append((curve.kind, str(x), times, size_name(size) if size > 0 else ""))
        lines += [f"<h2>{escape(axis)}</h2>"]
        lines += [f"<p class={'' if curve.kept else 'slower'}>{escape(curve.line())}.</p>" for curve in mine]
        lines += [f"<img alt='{escape(axis)}' src='data:image/png;base64,{base64.b64encode(picture).decode()}'>"]
        lines += [table(("", axis, "time: median (least - most)", "memory"), rows)]
    lines.append("<p>Dotted lines are in proportion to the size (to the inverse, for threads).</p></html>")
    (folder / "scaling.html").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [folder / "scaling.html", *written]
