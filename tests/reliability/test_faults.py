"""Whatever is killed or let down by its disk: the same command goes on, and ends as if nothing was.

The file operations of a command are counted in an undisturbed run; then it is disturbed at some of
them, or at some time. After each, the same command is run again, and what it leaves must be what
the undisturbed run left, to the name and the byte, without anything temporary.
"""

from __future__ import annotations

import errno
import random
import shutil
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from support.snapshot import snapshot
from support.victim import COMMANDS, KILL, TERM, End, Fault, Victims

# The kinds of disturbance, and how many of each a command gets in the short and the long form.
KINDS = {
    "killed at an operation": (2, 16),
    "killed at a time": (0, 6),
    "terminated at a time": (0, 6),
    "terminated at an operation": (0, 4),
    "I/O error": (1, 10),
    "full disk": (1, 10),
    "no memory": (0, 4),
}
ERRORS = {"I/O error": errno.EIO, "full disk": errno.ENOSPC}


def faults(kind: str, number: int, whole: End, rng: random.Random) -> list[Fault]:
    """So many disturbances of a kind, spread over what the undisturbed run did."""
    if kind == "no memory":
        return [Fault(memory=rng.randrange(1 << 16, 1 << 26)) for _ in range(number)]
    if kind.endswith("at a time"):
        what = KILL if kind.startswith("killed") else TERM
        return [Fault(what, after=rng.uniform(0, whole.seconds)) for _ in range(number)]
    what = ERRORS.get(kind, KILL if kind.startswith("killed") else TERM)
    # One of each part, so that no part is left out.
    bounds = [1 + whole.operations * i // max(number, 1) for i in range(number + 1)]
    return [
        Fault(what, at=rng.randrange(low, max(high, low + 1))) for low, high in pairwise(bounds)
    ]


def check_end(kind: str, fault: Fault, end: End) -> None:
    """A command that could not do its work says so in a sentence of ours."""
    told = f"{kind}: {fault} gave {end}"
    if kind.startswith("killed"):
        assert end.code in (0, -9), told
    elif kind.startswith("terminated"):
        assert end.code in (0, -15), told
    elif kind == "no memory":
        # An allocation can fail where nobody can say so any more.
        assert end.code != -9, told
    else:
        assert end.code in (0, 2), told
        assert end.code == 0 or "ems-fast: " in end.said, told


@pytest.mark.parametrize("thorough", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("command", COMMANDS)
def test_whatever_happens_the_same_command_goes_on(
    attacked: Victims, inputs: Path, tmp_path: Path, command: str, thorough: bool
) -> None:
    undisturbed = tmp_path / "undisturbed"
    undisturbed.mkdir()
    whole = attacked.run(command, inputs, undisturbed)
    assert whole.code == 0, whole
    assert whole.operations > 3
    wanted = snapshot(undisturbed)
    rng = random.Random(f"{command} {thorough}")
    ends: Counter[str] = Counter()
    for kind, numbers in KINDS.items():
        for fault in faults(kind, numbers[thorough], whole, rng):
            output = tmp_path / "disturbed"
            output.mkdir()
            end = attacked.run(command, inputs, output, fault)
            check_end(kind, fault, end)
            ends[f"{kind}: exit {end.code}"] += 1
            # A run of `extend` goes on as a training once that has begun; before, it begins anew.
            if command == "extend" and not (output / "run" / "config.toml").exists():
                shutil.rmtree(output)
                output.mkdir()
            again = attacked.run(command, inputs, output)
            # What was complete already is not done again.
            whole_already = command in ("prepare", "export") and "is not empty" in again.said
            assert again.code == (2 if whole_already else 0), (kind, fault, end, again)
            assert snapshot(output) == wanted, (kind, fault, end)
            shutil.rmtree(output)
    print(f"{command}, {whole.operations} operations on files:", *sorted(ends.items()), sep="\n  ")
