"""Where and by what command a run was trained: a line of its log for each time that it goes on."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_LONGEST_COMMAND = 2000


def session(device: torch.device, threads: int, ranks: int) -> dict[str, Any]:
    """The command, the versions and the machine, for a line of ``metrics.jsonl``.

    Args:
        device: what is trained on.
        threads: of torch.
        ranks: processes that train together.
    """
    import torch

    on_gpu = device.type == "cuda"
    return {
        "command": command(sys.argv),
        "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "versions": {
            "ems-fast": version("ems-fast"),
            "Python": platform.python_version(),
            "torch": str(torch.__version__),
        },
        "system": f"{platform.system()} {platform.machine()}",
        "processor": processor(),
        "memory_gib": _memory_gib(),
        "device": torch.cuda.get_device_name(device) if on_gpu else str(device),
        "threads": threads,
        "ranks": ranks,
    }


def command(arguments: list[str]) -> str:
    """A command line as one would type it; the program without its folder."""
    program, *rest = arguments or [""]
    name = Path(program).name
    begin = ["ems-fast"] if name == "__main__.py" and "ems_fast" in program else [name]
    words = shlex.join([word for word in begin if word] + rest)
    return words if len(words) <= _LONGEST_COMMAND else f"{words[: _LONGEST_COMMAND - 1]}…"


def processor() -> str:
    """The processor's name."""
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or "unknown"


def _memory_gib() -> float | None:
    """The machine's memory; None where it cannot be told."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None
