"""One process that tries cases of one target; what kills it is found by the one that forked it."""

from __future__ import annotations

import faulthandler
import gc
import mmap
import os
import random
import resource
import signal
import tempfile
import traceback
import warnings
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import Any

from ems_fast.encoding.encoder import EncodingWarning
from fuzzing.target import Attempt, Target

# What a case may take: seconds of the processor, and address space beyond what there was before.
SECONDS = 10
MEMORY = 1 << 30
# Files there take a third of the time of those on a disk.
IN_MEMORY = "/dev/shm" if os.path.isdir("/dev/shm") else None


class Hang(BaseException):
    """The time of a case is over."""


def _ring(_: int, __: FrameType | None) -> None:
    raise Hang


def seeded(target: str, case: int) -> random.Random:
    """The generator that draws a case: the same on every machine."""
    return random.Random(f"{target} {case}")


def where_raised(error: BaseException) -> str:
    """The innermost place of the package on the way to an error, else the innermost of all."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [f for f in frames if "ems_fast" in f.filename] or frames
    return f"{'/'.join(Path(ours[-1].filename).parts[-3:])}:{ours[-1].lineno}"


def outcome(target: Target, attempt: Attempt, case: int) -> tuple[str, dict[str, Any] | None]:
    """``result``, ``refusal`` or ``finding``, and of the last what it is."""
    try:
        attempt(seeded(target.name, case))
    except target.allowed:
        return "refusal", None
    except (Exception, Hang) as error:
        found = {
            "target": target.name,
            "case": case,
            "error": f"{type(error).__name__}: {error}"[:300],
            "at": where_raised(error),
            "trace": traceback.format_exc()[-4000:],
        }
        return "finding", found
    return "result", None


def bound_memory() -> None:
    """From now on, this process gets `MEMORY` more and no more."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def work(
    target: Target, first: int, stop: int, status: Path, trace: Path, pipe: Connection
) -> None:
    """Try cases first … stop − 1, and send every new finding, and the counts at the end.

    The file `status` holds the number of the case that is being tried, and `trace` where the
    process was when it was killed.
    """
    counts: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    warnings.simplefilter("error")  # as in every test; but these are for users
    warnings.simplefilter("ignore", EncodingWarning)
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-", dir=IN_MEMORY) as folder,
        status.open("r+b") as file,
        trace.open("w") as last_words,
    ):
        faulthandler.enable(last_words)
        place = mmap.mmap(file.fileno(), 8)
        attempt = target.make(Path(folder))
        gc.collect()
        gc.freeze()
        bound_memory()
        signal.signal(signal.SIGPROF, _ring)
        for case in range(first, stop):
            place[:] = case.to_bytes(8, "little")
            signal.setitimer(signal.ITIMER_PROF, SECONDS)
            kind, found = outcome(target, attempt, case)
            signal.setitimer(signal.ITIMER_PROF, 0)
            counts[kind] += 1
            if found is not None:
                kind = f"{found['error'].partition(':')[0]} {found['at']}"
                seen[kind] += 1
                if seen[kind] == 1:
                    pipe.send(found)
        pipe.send(dict(counts))
