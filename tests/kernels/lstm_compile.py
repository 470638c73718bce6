"""Compiles the Triton kernels of row_lstm and diagonal_lstm for GPUs that need not be there.

``python lstm_compile.py`` in a process without TRITON_INTERPRET prints a line of JSON: launch -> resources, and whether
a barrier follows the last store of a line.
"""

import json
import re
from typing import Any

import torch

from genfast.kernels.common.triton_launch import Launch
from genfast.kernels.diagonal_lstm.scan import diagonal_scan
from genfast.kernels.lstm.reference import wide
from genfast.kernels.lstm.triton_launch import backward_launch, forward_launch
from genfast.kernels.row_lstm.scan import row_scan
from tests.kernels.triton_compile import TYPES, compile_launch, resources

SCANS = {"row": row_scan(3), "diagonal": diagonal_scan(False), "reverse": diagonal_scan(True)}


def both(scan_name: str, batch: int, hidden: int, dtype: torch.dtype) -> tuple[Launch, Launch]:
    scan = SCANS[scan_name]
    x = torch.empty(batch, 4 * hidden, 32, 32, dtype=dtype, device="meta").to(memory_format=torch.channels_last)
    h0, h = x.new_empty(hidden), x.new_empty(batch, 32, 32, hidden)
    packed = x.new_empty(len(scan.taps) * 4 * hidden * hidden)
    c0, c, gates = (t.to(wide(dtype)) for t in (h0, h, x.permute(0, 2, 3, 1)))
    forward = forward_launch(x, packed, h0, c0, h, c, gates, scan, True)
    return forward, backward_launch(h.permute(0, 3, 1, 2), gates, c, packed, c0, gates, c, scan)


def wanted() -> list[tuple[str, int, int, torch.dtype, str, int]]:
    """(scan, batch, hidden, dtype, float32 precision, capability): each of these, but not every combination."""
    return [
        ("row", 16, 128, torch.bfloat16, "ieee", 90),
        ("diagonal", 16, 64, torch.float16, "ieee", 80),
        ("reverse", 2**15, 16, torch.float32, "ieee", 90),  # more than 2**31 elements
        ("row", 16, 128, torch.float32, "tf32", 90),
        ("diagonal", 16, 64, torch.float64, "ieee", 80),
    ]


def lines_end_with_a_barrier(compiled: Any) -> bool:
    """A barrier of all threads stands between the last store of a line and the next line: in Triton's own listing, and
    in PTX in every block that jumps back to the beginning of the outermost loop."""
    listing, ptx = compiled.asm["ttgir"], compiled.asm["ptx"]
    header = re.search(r"^(\$L__BB\d+_\d+):\s*// =>This Loop Header: Depth=1", ptx, re.MULTILINE)
    assert header, "the loop over lines was not found."
    entry, *blocks = re.split(r"^\$L__BB\d+_\d+:", ptx, flags=re.MULTILINE)
    back = [block for block in blocks if re.search(rf"@%p\d+ bra(\.uni)?\s+{re.escape(header[1])};", block)]
    return "barrier" in listing[listing.rindex("tt.store") :] and bool(back) and all("bar.sync" in b for b in back)


def main() -> None:
    report = {}
    for scan, batch, hidden, dtype, precision, capability in wanted():
        torch.backends.cuda.matmul.fp32_precision = precision
        for direction, launch in zip(("forward", "backward"), both(scan, batch, hidden, dtype), strict=True):
            compiled = compile_launch(launch, capability)
            key = f"sm_{capability}-{scan}-h{hidden}-{TYPES[dtype]}-{precision}-{direction}"
            report[key] = resources(compiled) | {
                "wide": int(str(launch.args["INDEX"]) == "int64"),
                "barrier": int(lines_end_with_a_barrier(compiled)),
            }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
