"""What was measured as one HTML file that needs nothing else."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from cases import suite_module

from genfast.profiling.html import STYLE
from genfast.profiling.units import seconds

PARTS = {
    "step": "forward + backward",
    "update": "a training step",
    "optimizer": "a training step, fused optimizer",
    "ratio": "drawing",
    "tf32": "drawing in TF32",
    "bfloat16": "drawing in bfloat16",
}
MORE_STYLE = """
td:nth-child(n+2), th:nth-child(n+2) { text-align: left } .slower { color: #b00020; font-weight: 600 }
.wrong { background: #fde8e8; padding: 0.5em 1em } pre { background: #f5f6f8; padding: 0.7em; overflow-x: auto }
"""
GLOSSARY = {
    "times as fast": "the time of the rival over ours: above 1, genfast is faster. All take turns in one process, so "
    "that what else the machine does slows them alike; the ratio is taken within each turn. Given is the median over "
    "the turns and in brackets the quartiles: half of the turns lie between them. Where these are far apart, or on "
    "both sides of 1, the machine was too busy to say.",
    "rival": "what a user would otherwise run. Of several the fastest counts, and the others are in the next column.",
    "time": "of one call of ours, in the turn in which it took least.",
    "floors": "our time over that of the least that must be done, at the best rate the machine was seen to reach in "
    "the run: 1.0 is as good as it gets. What counts is told below each table.",
    "checked": "every case compares its answer with its rivals' before the clock starts; a wrong one has no time.",
}


def report(found: Any) -> str:
    facts = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in found.machine.items())
    suites = dict.fromkeys(entry["suite"] for entry in found.entries)
    lines = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>genfast bench</title>",
        f"<style>{STYLE}{MORE_STYLE}</style><h1>genfast bench</h1><p>{escape(facts)}</p>",
        f"<p>{len(found.entries)} timings in {found.seconds:.0f} s. {escape(summary(found.entries))}</p>",
        *(f"<p>{escape(note)}</p>" for note in found.notes),
        *(f"<p class=wrong>{escape(name)}: failed, so it is not timed. {escape(why)}</p>" for name, why in found.wrong),
    ]
    for suite in suites:
        about = (suite_module(suite).__doc__ or "").strip()
        first, _, rest = about.partition("\n\n")
        rows = [cells(entry) for entry in found.entries if entry["suite"] == suite]
        rates = [entry["ceilings"] for entry in found.entries if entry["suite"] == suite][-1]
        lines += [
            f"<h2>{escape(suite)}</h2><p>{escape(' '.join(first.split()))}</p>",
            table(("case", "times as fast", "rival", "other rivals", "time", "floors"), rows),
            f"<p>{escape(', '.join(f'{key}: {value}' for key, value in rates.items()))}</p>" if rates else "",
            f"<details><summary>What is compared with what</summary><pre>{escape(rest)}</pre></details>",
        ]
    words = "".join(f"<dt>{escape(word)}</dt><dd>{escape(text)}</dd>" for word, text in GLOSSARY.items())
    return "\n".join([*lines, f"<h2>What the words mean</h2><dl>{words}</dl></html>"]) + "\n"


def summary(entries: Sequence[dict[str, Any]]) -> str:
    """How many are faster, slower, or not told apart."""
    ratios = [entry["rivals"][entry["fastest"]] for entry in entries]
    faster = sum(ratio["low"] > 1 for ratio in ratios)
    slower = sum(ratio["high"] < 1 for ratio in ratios)
    open_ = len(ratios) - faster - slower
    return (
        f"genfast is faster than the fastest rival in {faster} of {len(ratios)} timings and slower in {slower}; in "
        f"{open_} the quartiles lie on both sides of 1."
    )


def cells(entry: dict[str, Any]) -> tuple[str, ...]:
    ratio = entry["rivals"][entry["fastest"]]
    others = [f"{name}: {each['median']:.2f}" for name, each in entry["rivals"].items() if name != entry["fastest"]]
    others += [f"{name}: left out, {why}" for name, why in entry["left_out"].items()]
    others += entry["more"].get("targets", [])
    mark = "class=slower" if ratio["high"] < 1 else ""
    bar = f"<div class=bar style='width:{min(200, 20 * ratio['median']):.0f}px'></div>"
    return (
        escape(f"{entry['title']}, {PARTS.get(entry['part'], entry['part'])}") + bar,
        f"<span {mark}>{ratio['median']:.2f} ({ratio['low']:.2f} - {ratio['high']:.2f})</span>",
        escape(entry["fastest"]),
        escape("; ".join(others)),
        seconds(entry["ours"]),
        f"{entry['of_floor']:.2f}" if entry["of_floor"] else "",
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The cells are HTML."""
    lines = ["".join(f"<td>{cell}</td>" for cell in row) for row in rows]
    first = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return f"<div class=scroll><table><tr>{first}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table></div>"


def comparison(said: Sequence[str], machine: dict[str, Any], changes: Sequence[Any]) -> str:
    """changes: of against.py."""
    rows = []
    for change in changes:
        mark = "class=slower" if change.verdict == "SLOWER" else ""
        ratio = change.ratio
        times = [""] * 3
        if ratio is not None:
            spread = f"{ratio.median:.2f} ({ratio.low:.2f} - {ratio.high:.2f})"
            times = [spread, seconds(ratio.theirs), seconds(ratio.ours)]
        rows.append(
            (
                escape(", ".join(filter(None, (change.case, PARTS.get(change.part, change.part))))),
                f"<span {mark}>{escape(change.verdict)}</span>",
                *times,
            )
        )
    facts = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in machine.items())
    lines = [
        "<!doctype html><html lang=en><meta charset=utf-8><title>genfast bench --compare</title>",
        f"<style>{STYLE}{MORE_STYLE}</style><h1>genfast bench --compare</h1><p>{escape(facts)}</p>",
        *(f"<p>{escape(sentence)}</p>" for sentence in said),
        table(("case", "verdict", "times as fast", "time there", "time here"), rows),
        "<p>Two processes, one with each version, take turns; the ratio is taken turn by turn: the median and in "
        "brackets the quartiles, times the quickest.</p></html>",
    ]
    return "\n".join(lines) + "\n"
