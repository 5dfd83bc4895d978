"""How many threads may compute: torch's setting, and without torch what it would begin with."""

from __future__ import annotations

import os
import re
import sys


def num_threads() -> int:
    """Threads that a kernel may use.

    Where torch is loaded, its own setting (``torch.set_num_threads``); else that of the variable
    ``OMP_NUM_THREADS``, else the number of processors that this process may run on.
    """
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):  # it may be half imported
        return int(torch.get_num_threads())
    wanted = re.match(r"\s*(\d+)", os.environ.get("OMP_NUM_THREADS", ""))
    return max(1, int(wanted[1])) if wanted else usable_processors()


def usable_processors() -> int:
    """Processors that this process may run on; where the system does not say, all there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_num_threads(threads: int) -> None:
    """Change what `num_threads` says, also for a torch that is loaded later."""
    os.environ["OMP_NUM_THREADS"] = str(threads)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
