"""What a number depends on: processor, threads, versions, commit."""

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from genfast.ops.backends import isa


def machine() -> dict[str, Any]:
    """As plain JSON values."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    return {
        "cpu": model,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instruction_set": isa(),
        "torch": torch.__version__,
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _commit() -> str:
    """Of the sources, where they are a checkout."""
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return run.stdout.strip() or "unknown"


def busy() -> str:
    """A sentence where other work shares the machine, which makes every time longer; else empty."""
    if not hasattr(os, "getloadavg"):
        return ""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load < 0.7 * cores + 1:
        return ""
    return (
        f"The machine was busy with other work (load {load:.1f} on {cores} cores), which takes time from every row "
        "unevenly; repeat on a quiet machine before believing a small difference."
    )
