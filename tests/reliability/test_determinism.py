"""The same seed, threads and instructions give the same bits; others stay within stated bounds."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ems_fast import BinaryCorpus
from ems_fast.ops.native import kernels

TESTS = Path(__file__).parents[1]
BEST = kernels().available_isas()[-1]
# After a few steps of training, relative to the largest entry (docs/reliability.md).
BOUND = 1e-4
# What computes with the kernels of an instruction set.
KERNEL_SUITE = (
    "ops", "model", "alignment", "encoding/test_encoding.py", "encoding/test_precision.py",
    "training/test_training.py", "training/test_static.py",
)  # fmt: skip
Numbers = dict[str, np.ndarray]
Run = Callable[[str, int], Numbers]


def in_a_process(*arguments: str, isa: str, threads: int = 1) -> subprocess.CompletedProcess[str]:
    """Run Python with one instruction set; in tests/, so that the source tree is not imported."""
    environment = {**os.environ, "EMS_FAST_ISA": isa, "OMP_NUM_THREADS": str(threads)}
    return subprocess.run(
        [sys.executable, *arguments], cwd=TESTS, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def numbers(corpus: BinaryCorpus, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """What `support.fingerprint` computes in a new process."""

    def run(isa: str, threads: int) -> Numbers:
        folder = tmp_path_factory.mktemp("numbers")
        done = in_a_process(
            "-m", "support.fingerprint", str(corpus.path), str(folder), isa=isa, threads=threads
        )
        assert done.returncode == 0, done.stderr
        with np.load(folder / "numbers.npz") as found:
            return dict(found)

    return run


@pytest.fixture(scope="module")
def usual(numbers: Run) -> Numbers:
    return numbers(BEST, 1)


def distance(one: Numbers, other: Numbers) -> float:
    """The largest difference, relative to the largest entry of its array."""
    assert one.keys() == other.keys()
    return max(
        float(np.abs(one[name] - other[name]).max() / np.abs(one[name]).max())
        for name in one
        if np.abs(one[name]).max() > 0
    )


def test_another_process_computes_the_same_bits(numbers: Run, usual: Numbers) -> None:
    assert distance(usual, numbers(BEST, 1)) == 0


@pytest.mark.slow
@pytest.mark.parametrize("threads", [2, 3])
def test_threads_change_little(numbers: Run, usual: Numbers, threads: int) -> None:
    once, again = numbers(BEST, threads), numbers(BEST, threads)
    assert distance(once, again) == 0
    print(f"{threads} threads: {distance(usual, once):.1e}")
    assert distance(usual, once) < BOUND


@pytest.mark.parametrize(
    "isa",
    [
        pytest.param(isa, marks=() if isa == "baseline" else pytest.mark.slow)
        for isa in kernels().available_isas()[:-1]
    ],
)
def test_older_processors_compute_nearly_the_same(numbers: Run, usual: Numbers, isa: str) -> None:
    found = numbers(isa, 1)
    print(f"{isa} for {BEST}: {distance(usual, found):.1e}")
    assert 0 < distance(usual, found) < BOUND


@pytest.mark.slow
@pytest.mark.parametrize("isa", kernels().available_isas())
def test_the_kernel_suite_passes_with_every_instruction_set(isa: str) -> None:
    done = in_a_process("-m", "pytest", "-q", "-p", "no:cacheprovider", *KERNEL_SUITE, isa=isa)
    print(f"{isa}: {done.stdout.splitlines()[-1]}")
    assert done.returncode == 0, done.stdout


def test_the_variable_decides_for_every_module_of_kernels() -> None:
    code = (
        "import ems_fast; from ems_fast import _encoding; from ems_fast.ops.native import kernels;"
        "ems_fast.load().encode(['a']); print(kernels().active_isa(), _encoding.active_isa())"
    )
    assert in_a_process("-c", code, isa="baseline").stdout == "baseline baseline\n"
    assert in_a_process("-c", code, isa="").stdout == f"{BEST} {BEST}\n"


def test_an_instruction_set_that_is_none_is_a_clear_error() -> None:
    done = in_a_process("-m", "ems_fast", "doctor", isa="avx9")
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("ems-fast: EMS_FAST_ISA: got 'avx9', expected what this ")
