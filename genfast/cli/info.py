"""``genfast info``: versions, processor, and a table of operators and backends."""

from collections.abc import Sequence
from dataclasses import dataclass

from genfast.cli.flags import parse


@dataclass(frozen=True)
class InfoFlags:
    """No options."""


def main(argv: Sequence[str]) -> None:
    """Print what this installation can do."""
    parse(
        InfoFlags,
        argv,
        "genfast info",
        "Print versions, the processor's instruction set, threads, and for each operator which backends are present, "
        "or why they are not.",
    )
    from genfast.ops.backends import report

    print(report())
