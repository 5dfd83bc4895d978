"""A short run of the fuzzer, and that it would find something."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOM = Path(__file__).resolve().parents[1]


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=ROOM,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_few_cases_of_everything(tmp_path: Path) -> None:
    done = run("-m", "fuzzing", "--cases", 1500, "--folder", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    kept = json.loads((tmp_path / "fuzz.json").read_text())
    assert kept["findings"] == []
    assert sum(kept["tried"].values()) >= 1500
    for name, outcomes in kept["outcomes"].items():
        assert outcomes.get("result", 0) + outcomes.get("refusal", 0) == kept["tried"][name]


@pytest.mark.slow
def test_many_cases_of_everything(tmp_path: Path) -> None:
    done = run("-m", "fuzzing", "--cases", 100_000, "--folder", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


_BROKEN = """
import os, sys
from fuzzing import __main__ as fuzzer, worker
from fuzzing.target import Target

worker.SECONDS = 1
worker.MEMORY = 1 << 27

def make(folder):
    def attempt(rng):
        number = rng.randrange(40)
        if number == 0: raise KeyError("x")
        if number == 1: os.abort()
        if number == 2: bytearray(1 << 28)
        if number == 3:
            while True: pass
        if number == 4: raise ValueError
    return attempt

outcomes, findings = fuzzer.attack(Target("broken", make, allowed=(ValueError,)), 0, 200)
assert sum(outcomes.values()) == 200, outcomes
assert outcomes["crash"], outcomes
print(sorted({found["error"].partition(":")[0] for found in findings}))
"""


def test_it_finds_what_is_wrong() -> None:
    done = run("-c", _BROKEN)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['Hang', 'KeyError', 'MemoryError', 'exit code -6']"
