"""Nothing needs what only Linux has."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.other_system import MODULES, OS_NAMES, SIGNALS

import ems_fast
from ems_fast import _encoding
from ems_fast.ops.native import kernels
from ems_fast.ops.threads import usable_processors

TESTS = Path(__file__).parents[1]
# Where a name that not all systems have may stand, beside what takes its place.
ALLOWED = (
    ("files/locks.py", "fcntl"),
    ("ops/threads.py", "sched_getaffinity"),
    ("cli/doctor.py", "/proc/"),
    ("runs/session.py", "/proc/"),
)


def test_every_command_works_with_what_all_systems_have(inputs: Path, tmp_path: Path) -> None:
    if sys.platform != "linux":
        pytest.skip("takes from Linux what others do not have")
    done = subprocess.run(
        [sys.executable, "-m", "support.other_system", str(inputs), str(tmp_path)],
        cwd=TESTS, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "all done"


def test_names_of_some_systems_stand_where_they_are_expected() -> None:
    names = [rf"\bimport {m}\b|\bfrom {m} import\b" for m in MODULES]
    names += [rf"\bos\.{name}\b" for name in OS_NAMES]
    names += [rf"\bsignal\.{name}\b" for name in SIGNALS]
    pattern = re.compile("|".join([*names, "/proc/"]))
    package = Path(ems_fast.__file__).parent
    found = {
        (path.relative_to(package).as_posix(), match.group())
        for path in package.rglob("*.py")
        for match in pattern.finditer(path.read_text(encoding="utf-8"))
    }
    for place, name in found:
        assert any(place == where and known in name for where, known in ALLOWED), (place, name)
    assert len(found) == len(ALLOWED)


def test_processors_are_counted_where_the_system_does_not_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert usable_processors() >= 1
    monkeypatch.delattr("os.sched_getaffinity", raising=False)
    monkeypatch.setattr("os.cpu_count", lambda: 7)
    assert usable_processors() == 7
    monkeypatch.setattr("os.cpu_count", lambda: None)
    assert usable_processors() == 1


def test_instruction_sets_are_those_that_the_system_tells() -> None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        pytest.skip("the system does not tell")
    flags = next((set(line.split()) for line in lines if line.startswith("flags")), set())
    if "sse2" not in flags:
        pytest.skip("there is one for this kind of processor")
    wanted = ["baseline"]
    if {"avx2", "fma", "f16c"} <= flags:
        wanted.append("avx2")
        if {"avx512f", "avx512dq", "avx512bw", "avx512vl"} <= flags:
            wanted.append("avx512")
    assert kernels().available_isas() == wanted
    assert _encoding.available_isas() == wanted
    assert kernels().has_fast_bfloat16() == ("avx512_bf16" in flags and "avx512" in wanted)
