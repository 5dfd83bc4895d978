"""Commands to be killed or let down: a process that imported everything and forks a victim a task.

`Victims` starts it with the library of faults.c preloaded, sends a line of JSON a task and reads a
line of JSON about its end.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

KILL, TERM = -1, -2  # as in faults.c; above 0 is an errno


@dataclass(frozen=True)
class Fault:
    """What happens to a victim.

    Attributes:
        what: `KILL`, `TERM` or an errno; 0: nothing.
        at: number of the file operation where it happens, from 1.
        after: or seconds after the start, for signals.
        memory: or bytes of address space beyond what the process has.
    """

    what: int = 0
    at: int = 0
    after: float | None = None
    memory: int | None = None


@dataclass(frozen=True)
class End:
    """How a victim ended: exit code (0, 2 for an error of ours, −9 ...), and what it did."""

    code: int
    operations: int
    seconds: float
    said: str


# -- the commands: each takes the folder of inputs and that of outputs ----------------------------

TEXT_OPTIONS = {"vocab_size": 300, "tokenizer_type": "bpe", "valid_pairs": 3}


def prepare(inputs: Path, output: Path) -> None:
    import ems_fast

    ems_fast.prepare(inputs / "text", output / "corpus", progress=False, **TEXT_OPTIONS)


def train(inputs: Path, output: Path) -> None:
    import ems_fast

    ems_fast.train(
        inputs / "text", output / "run", resume="auto", prepare_options=TEXT_OPTIONS,
        model=ems_fast.ModelConfig(layers=0, width=16, phrases=20, reconstruction=False),
        max_steps=6, batch_pairs=8, log_steps=1, evaluations=2, evaluation_pairs=3,
        checkpoint_minutes=0.0, device="cpu", progress=False,
    )  # fmt: skip


def extend(inputs: Path, output: Path) -> None:
    import ems_fast
    from ems_fast.runs.folder import RunFolder

    folder = RunFolder(output / "run")
    if folder.config.exists():  # killed before: the training goes on
        ems_fast.train(None, folder.path, resume=True, device="cpu", progress=False)
        return
    ems_fast.extend(
        inputs / "run", inputs / "more", folder.path, max_steps=4, batch_pairs=8, log_steps=1,
        evaluations=1, evaluation_pairs=3, checkpoint_minutes=0.0, new_pieces=20, device="cpu",
        progress=False,
    )  # fmt: skip


def encode(inputs: Path, output: Path) -> None:
    import ems_fast
    from ems_fast.encoding import bulk, partial_array

    bulk.CHUNK_ROWS = 16
    partial_array.RECORD_SECONDS = 0.0
    encoder = ems_fast.load(inputs / "run", device="cpu")
    ems_fast.encode_file(encoder, inputs / "lines.txt", output / "vectors.npy", progress=False)


def filter_text(inputs: Path, output: Path) -> None:
    import ems_fast
    from ems_fast.filtering import api

    api.SEGMENT_PAIRS = 40
    encoder = ems_fast.load(inputs / "run", device="cpu")
    ems_fast.filter_pairs(
        inputs / "text", output / "clean.tsv.zst", encoder=encoder, min_score=-1.0, progress=False
    )


def export(inputs: Path, output: Path) -> None:
    import ems_fast

    ems_fast.export(inputs / "run", output / "model", to="ems-fast", bits=4)


def align(inputs: Path, output: Path) -> None:
    import ems_fast

    encoder = ems_fast.load(inputs / "run", device="cpu")
    ems_fast.align_files(encoder, inputs / "en", inputs / "de", output / "aligned")


COMMANDS: dict[str, Callable[[Path, Path], None]] = {
    "prepare": prepare, "train": train, "extend": extend, "encode": encode,
    "filter": filter_text, "export": export, "align": align,
}  # fmt: skip


# -- the process that forks ------------------------------------------------------------------------


class Victims:
    """The process to which tasks are given."""

    def __init__(self, library: Path):
        environment = {**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
        # Here, where the source tree does not hide the installed package.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.victim", str(library)],
            cwd=Path(__file__).parents[1], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(self, command: str, inputs: Path, output: Path, fault: Fault = Fault()) -> End:
        """Run a command of `COMMANDS` in a process of its own, until it ends."""
        (end,) = self._run(command, inputs, output, 1, fault)
        return end

    def run_at_once(self, command: str, inputs: Path, output: Path, number: int) -> list[End]:
        """The same in several processes at the same time."""
        return self._run(command, inputs, output, number, Fault())

    def _run(
        self, command: str, inputs: Path, output: Path, number: int, fault: Fault
    ) -> list[End]:
        assert self._process.stdin
        assert self._process.stdout
        task = {
            "command": command, "inputs": str(inputs), "output": str(output), "number": number,
            **asdict(fault),
        }  # fmt: skip
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        return [End(**end) for end in json.loads(self._process.stdout.readline())]

    def close(self) -> None:
        """End it."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


@contextmanager
def victims(library: Path) -> Iterator[Victims]:
    """`Victims`, ended with the block."""
    found = Victims(library)
    try:
        yield found
    finally:
        found.close()


def _serve(library: str) -> None:
    # For the victims: a fork has what was imported before.
    import torch
    import torch._dynamo
    import torch.utils.tensorboard

    import ems_fast
    from ems_fast import alignment, corpus, exporting, filtering, training  # noqa: F401

    torch.set_num_threads(1)
    assert ems_fast.load  # imported
    faults = ctypes.CDLL(library)
    faults.faults_count.restype = ctypes.c_long
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a victim prints is no answer
    for line in sys.stdin:
        task = json.loads(line)
        faults.faults_arm(b"", 0, ctypes.c_long(0))
        running = [_start(faults, task) for _ in range(task["number"])]
        ends = [asdict(_end(faults, task, *victim)) for victim in running]
        print(json.dumps(ends), file=answers, flush=True)


def _start(faults: ctypes.CDLL, task: dict[str, Any]) -> tuple[int, int, float]:
    """Fork a victim; its process, where its stderr is read, and when it began."""
    said, writing = os.pipe()
    victim = os.fork()
    if victim == 0:
        os._exit(_live(faults, task, writing))
    os.close(writing)
    return victim, said, time.monotonic()


def _end(faults: ctypes.CDLL, task: dict[str, Any], victim: int, said: int, begun: float) -> End:
    if task["after"] is not None:
        end = os.pidfd_open(victim)
        if not select.select([end], [], [], task["after"])[0]:
            os.kill(victim, signal.SIGKILL if task["what"] == KILL else signal.SIGTERM)
        os.close(end)
    with os.fdopen(said, errors="replace") as file:
        words = file.read()
    _, status = os.waitpid(victim, 0)
    seconds = time.monotonic() - begun
    return End(os.waitstatus_to_exitcode(status), faults.faults_count(), seconds, words[-4000:])


def _live(faults: ctypes.CDLL, task: dict[str, Any], writing: int) -> int:
    from ems_fast import EmsError

    os.dup2(writing, 2)
    os.close(writing)
    signal.alarm(300)  # one that hangs ends, with a code that no test expects
    at = task["at"] if task["after"] is None else 0
    faults.faults_arm(task["output"].encode(), task["what"], ctypes.c_long(at))
    if task["memory"] is not None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + task["memory"]
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    try:
        COMMANDS[task["command"]](Path(task["inputs"]), Path(task["output"]))
    except EmsError as error:
        os.write(2, f"ems-fast: {error}\n".encode())
        return 2
    except BaseException:
        os.write(2, traceback.format_exc().encode())
        return 1
    return 0


if __name__ == "__main__":
    _serve(sys.argv[1])
