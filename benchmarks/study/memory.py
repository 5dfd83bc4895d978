"""The most memory that this process has had, mapped files among it (Linux)."""

from __future__ import annotations

import re
from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def forget_peak() -> None:
    """Count from what is there now: what comes before training is not its own."""
    _CLEAR.write_text("5", encoding="ascii")


def peak_mb() -> int:
    """Since the last `forget_peak`, or the start."""
    found = re.search(r"VmHWM:\s+(\d+) kB", _STATUS.read_text(encoding="utf-8"))
    return int(found[1]) // 1024 if found else 0
