"""``genfast info``: versions, processor, operators by backend, and sampling engines."""

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
        "Print versions, the processor's instruction set, threads, and which backends of each operator and which "
        "sampling engines are present, or why they are not.",
    )
    from genfast.ops.backends import report
    from genfast.sampling.engines import engine_table

    print(report())
    print("\nsampling engine  state")
    for engine, state in engine_table():
        print(f"{engine:15}  {state}")
