"""A profile as one HTML file that needs nothing else."""

import base64
from html import escape

from genfast.profiling import gpu, roofline
from genfast.profiling.profile import BOUNDS, EXPLAINED, Profile, Row
from genfast.profiling.table import COLUMNS, cells, summary
from genfast.profiling.units import seconds

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1200px; margin: 2em auto; padding: 0 1em; color: #222 }
table { border-collapse: collapse; font-size: 13px } td, th { padding: 2px 9px; text-align: right; white-space: nowrap }
th { border-bottom: 1px solid #888 } tr:nth-child(even) { background: #f5f6f8 }
td:nth-child(-n+2), th:nth-child(-n+2), td.end { text-align: left } .bar { background: #4285f4; height: 9px }
img { max-width: 100% } dt { font-weight: 600 } .scroll { overflow-x: auto }
"""

GLOSSARY = {
    "calls": "of an operator, or launches of a sampler's step, in one run of what is named above.",
    "time": "of all calls, each as in the turn in which it took least; where several threads work, the mean of theirs.",
    "share": "of the times of all rows.",
    "GFLOP": "multiplications and additions of products with weights, in thousands of millions. For a sampler, taps "
    "outside the image are not counted; for an operator they are.",
    "MB": "what goes in and what comes out, each number once a call; for a sampler's step its weights once a launch "
    "and thread, and the activations that it reads and writes.",
    "GFLOP/s, GB/s": "these over the time.",
    "of ceiling": "the time that the work would take at the ceilings measured in this run, over the time that it took. "
    "The resource that would take longest counts. Numbers near 100% are as good as this machine gets.",
    "bound by": f"that resource, where it explains at least {EXPLAINED:.0%} of the time; latency otherwise.",
}


PARTS = {
    "step": "a kernel of the compiled sampler: the layer that its first operation comes from, and its operations.",
    "gather, gemm, body, store": "of a step's time: fetching what its product reads, the product, elementwise "
    "operations, writing.",
    "positions a launch": "pixels of an image that a launch computes at once.",
}


def report(profile: Profile, trace: str = "") -> str:
    """trace: the name of a Chrome trace beside the report, if there is one."""
    machine = profile.machine
    facts = ", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in machine.items())
    title = f"{profile.title}: {profile.what}"
    sentences = [*summary(profile), *profile.notes, gpu.sentence()]
    if trace:
        sentences.append(f"{trace} shows what ran when, by layer: open it in https://ui.perfetto.dev.")
    picture = base64.b64encode(roofline.png(profile)).decode()
    parts = PARTS if profile.row_kind == "step" else {}
    glossary = {**GLOSSARY, **parts, **{f"bound by {name}": text for name, text in BOUNDS.items()}}
    lines = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        f"<title>{escape(title)}</title><style>{STYLE}</style><h1>{escape(title)}</h1><p>{escape(facts)}</p>",
        *(f"<p>{escape(sentence)}</p>" for sentence in sentences),
        f"<h2>By {profile.row_kind}</h2><div class=scroll>{rows_table(profile)}</div>",
        "<h2>Roofline</h2><p>A point is a row, its area the share of the time. Lines are what the ceilings allow.</p>"
        f"<img alt='roofline' src='data:image/png;base64,{picture}'>",
        f"<h2>Ceilings, measured in this run</h2>{ceilings_table(profile)}",
        "<h2>What the words mean</h2><dl>",
        *(f"<dt>{escape(word)}</dt><dd>{escape(text)}</dd>" for word, text in glossary.items()),
        "</dl></html>",
    ]
    return "\n".join(lines) + "\n"


def rows_table(profile: Profile) -> str:
    """All rows, with a bar for the share and, of a sampler, the parts of a step."""
    details = list(dict.fromkeys(name for row in profile.rows for name in row.detail))
    head = ("", profile.row_kind, *COLUMNS, *details)
    lines = [f"<table><tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>"]
    for i, row in enumerate(profile.rows):
        bar = f"<div class=bar style='width:{200 * profile.share(row):.0f}px'></div>"
        first = f"<td>{i + 1}</td><td>{escape(row.name)}{bar}</td>"
        *numbers, bound = cells(profile, row)
        middle = "".join(f"<td>{escape(cell)}</td>" for cell in numbers)
        last = "".join(f"<td>{_detail(row, name)}</td>" for name in details)
        lines.append(f"<tr>{first}{middle}<td class=end>{escape(bound)}</td>{last}</tr>")
    return "\n".join([*lines, "</table>"])


def _detail(row: Row, name: str) -> str:
    if name not in row.detail:
        return ""
    return f"{row.detail[name]:.3g}" if " " in name else seconds(row.detail[name])


def ceilings_table(profile: Profile) -> str:
    lines = "".join(
        f"<tr><td>{escape(what)}</td><td>{escape(rate)}</td></tr>" for what, rate in profile.ceilings.lines()
    )
    return f"<table>{lines}</table>"
