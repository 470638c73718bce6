"""A profile as text for a terminal."""

import textwrap

from genfast.profiling.profile import BOUNDS, Profile, Row
from genfast.profiling.units import seconds

COLUMNS = ("calls", "time", "share", "GFLOP", "MB", "GFLOP/s", "GB/s", "of ceiling", "bound by")


def cells(profile: Profile, row: Row) -> tuple[str, ...]:
    """What a table says of a row, after its name; "" where there is nothing to count."""
    return (
        f"{row.calls}",
        seconds(row.seconds),
        f"{profile.share(row):.1%}",
        f"{row.flops / 1e9:.3g}" if row.flops else "",
        f"{row.bytes / 1e6:.3g}" if row.bytes else "",
        f"{row.flop_rate / 1e9:.3g}" if row.flops else "",
        f"{row.byte_rate / 1e9:.3g}" if row.bytes else "",
        f"{row.percent:.0f}%",
        row.bound,
    )


def summary(profile: Profile) -> list[str]:
    """The answer in sentences: how long, where, what bounds it."""
    n, whole = profile.images, profile.seconds
    said = {"sample": "Drawing", "train": "A training step on", "evaluate": "Scoring"}.get(profile.what)
    images = f"{n} image{'' if n == 1 else 's'}"
    lines = []
    if said:
        each = f"{seconds(whole / n)} an image, {seconds(whole / n / profile.pixels)} a pixel"
        inside = "the engine" if profile.row_kind == "step" else "operators"
        lines.append(
            f"{said} {images} took {seconds(whole)}: {each}. {seconds(min(profile.device_seconds, whole))} of it in "
            f"{inside}, {seconds(profile.host_seconds)} ({profile.host_seconds / whole:.0%}) in Python around it."
        )
    bounds = ", ".join(f"{share:.0%} by {bound} ({BOUNDS[bound]})" for bound, share in profile.by_bound().items())
    lines.append(f"What bounds it: {bounds}.")
    return lines


def table(profile: Profile, most: int = 20) -> str:
    """Everything that fits on a screen. most: rows; the rest are added up."""
    machine, ceilings = profile.machine, profile.ceilings
    lines = [
        f"{profile.title}: {profile.what}",
        f"{machine['cpu']}, {machine['threads']} of {machine['cores']} cores, {machine['instruction_set']}, "
        f"torch {machine['torch']}",
        "",
    ]
    shown = profile.rows[:most]
    name_width = min(52, max([len(row.name) for row in shown], default=4))
    rows = [(_short(row.name, name_width), *cells(profile, row)) for row in shown]
    head = (profile.row_kind, *COLUMNS)
    widths = [max(len(head[i]), *(len(row[i]) for row in rows)) if rows else len(head[i]) for i in range(len(head))]
    for row in (head, *rows):
        first, *middle, last = (
            cell.ljust(width) if i in (0, len(head) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join([first, *middle, last]).rstrip())
    rest = profile.rows[most:]
    if rest:
        lines.append(f"and {len(rest)} others: {sum(profile.share(row) for row in rest):.1%} of the time")
    lines.append("")
    for sentence in (*summary(profile), *profile.notes):
        lines += textwrap.wrap(sentence, 118)
    lines += ["", "ceilings, measured in this run:"]
    pairs = ceilings.lines()
    width = max(len(what) for what, _ in pairs)
    lines += [f"  {what:{width}}  {rate}" for what, rate in pairs]
    return "\n".join(lines)


def _short(name: str, width: int) -> str:
    """The end of a name says more than its middle."""
    return name if len(name) <= width else name[: width // 2 - 1] + "..." + name[-(width - width // 2 - 2) :]
