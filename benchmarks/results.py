"""Figures with what is needed to read them: machine, commit, command."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import ems_fast
from ems_fast.cli.doctor import processor

FORMAT = 1


def machine(device: torch.device | str = "cpu") -> dict[str, Any]:
    """The processor, the GPU if `device` is one, and the versions that matter."""
    device = torch.device(device)
    on_gpu = device.type == "cuda"
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if on_gpu else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if on_gpu else None,
        "ems_fast": ems_fast.__version__,
    }


def write_results(
    path: Path, figures: Any, device: torch.device | str = "cpu", command: str | None = None
) -> None:
    """Write `figures`, anything that JSON holds, as benchmarks/results/README.md describes.

    `command` gets the figures again, if that of this process does not.
    """
    document = {
        "format": FORMAT,
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "machine": machine(device),
        "commit": commit(),
        "command": command or shlex.join(["python", *sys.argv]),
        "figures": figures,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(document, indent=1, ensure_ascii=False)
    unfinished = path.with_name(f".{path.name}.partial")
    unfinished.write_text(text + "\n", encoding="utf-8")
    unfinished.replace(path)


def commit() -> str | None:
    """The commit of the source tree, with "+" where tracked files differ from it; None without git.

    What is measured is the installed package: install this tree first.
    """
    folder = Path(__file__).resolve().parent
    try:
        name = _git(folder, "rev-parse", "--short=12", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return None
    return name + ("+" if changed else "")


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()
