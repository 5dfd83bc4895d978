"""A training in many legs in one process, and what the process holds after each.

``python -m support.endurance CORPUS RUN MODEL STEPS LEGS`` prints a line of JSON a leg.
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

import torch
from support.fingerprint import MODELS
from support.synthetic import ending_after

import ems_fast


def held() -> dict[str, int]:
    """What this process holds: bytes of memory, open files, threads."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return {
        "memory": pages * os.sysconf("SC_PAGE_SIZE"),
        "files": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }


def main(corpus: Path, run: Path, model: str, steps: int, legs: int) -> None:
    """Train so many steps; each leg resumes what the one before left."""
    torch.set_num_threads(1)
    for leg in range(1, legs + 1):
        end = steps * leg // legs
        with ending_after(end):
            ems_fast.train(
                corpus, run, resume="auto", model=MODELS[model], max_steps=steps, batch_pairs=32,
                log_steps=10, evaluations=1, evaluation_pairs=5, precision="fp32", device="cpu",
                progress=False,
            )  # fmt: skip
        print(json.dumps({"step": end, **held()}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
