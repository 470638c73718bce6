"""Which barriers of an emulated kernel are needed: a table of checks is run without each of them in turn.

Each run is a fork of one process that has imported everything and run nothing: a kernel that lacks a barrier may crash,
or leave caches behind that are wrong.
"""

import ctypes
import os
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from tests.kernels import apart


def needed(library: str, barriers: Sequence[str], run: Callable[[], Any]) -> dict[str, bool]:
    """barrier -> whether ``run``, which goes through a table with ``attempt``, fails or crashes without it; the name ""
    is for none missing. It ends at the first check that fails."""
    skip = ctypes.CDLL(library).genfast_emulated_skip
    found: dict[str, bool] = {}
    for barrier in ("", *barriers):
        child = os.fork()
        if child == 0:
            skip(barrier.encode())
            os._exit(int(fails(run)))
        found[barrier] = os.waitpid(child, 0)[1] != 0
    return found


def fails(run: Callable[[], Any]) -> bool:
    apart.ONE_IS_ENOUGH = True
    try:
        run()
    except apart.Failed:
        return True
    except BaseException:
        traceback.print_exc()
        return True
    return False
