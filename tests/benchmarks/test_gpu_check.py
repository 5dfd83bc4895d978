"""The check for a machine with a GPU, as far as a CPU can run it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gpu_check
import gpu_sections
import pytest
import torch

TINY = ["--device", "cpu", "--tiny", "--rounds", "1"]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_every_section_that_a_cpu_can_run(tmp_path: Path) -> None:
    chosen = ["backend", "ceilings", "gradients", "steps", "attention", "replayed"]
    path = tmp_path / "rows.jsonl"
    assert gpu_check.main([*TINY, "--output", str(path), "--only", *chosen]) == 0
    rows = rows_of(path)
    assert [r["section"] for r in rows[:2]] == ["machine", "backend"]
    assert {r["section"] for r in rows[1:-1]} == set(chosen)
    assert rows[-1] == {"section": "end", "failed": []}
    steps = {r["model"]: r for r in rows if r["section"] == "steps"}
    assert set(steps) == {"static", "mini"}
    assert steps["mini"]["pairs_per_second"] > 0
    assert 0 < len(steps["mini"]["longest_kernels"]) <= gpu_sections.LONGEST_KERNELS
    errors = [r["error"] for r in rows if r["section"] == "gradients" and r["precision"] == "fp32"]
    assert 0 < max(errors) < 1e-5


def test_a_wrong_gradient_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_sections, "TOLERANCE", {"fp32": 1e-12})
    path = tmp_path / "rows.jsonl"
    assert gpu_check.main([*TINY, "--output", str(path), "--only", "gradients"]) == 1
    *_, failure, end = rows_of(path)
    assert "gradient off by" in failure["failed"]
    assert end["failed"] == ["gradients"]


def test_nothing_goes_on_without_the_fused_backend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_sections.ems_fast, "backends", list)
    path = tmp_path / "rows.jsonl"
    assert gpu_check.main([*TINY, "--output", str(path)]) == 1
    assert [r["section"] for r in rows_of(path)] == ["machine", "backend", "end"]


def test_rows_are_there_before_the_next_is_made(tmp_path: Path) -> None:
    """A section that dies, or time that runs out, leaves what was measured, and others go on."""
    path = tmp_path / "rows.jsonl"
    rows = gpu_check.Rows(path)

    def dies() -> Iterator[dict[str, Any]]:
        yield {"x": 1}
        assert rows_of(path) == [{"section": "dies", "x": 1}]
        raise RuntimeError("CUDA error: an illegal memory access\nand more")

    def lives() -> Iterator[dict[str, Any]]:
        yield {"y": 2}

    assert gpu_check.check({"dies": dies, "lives": lives}, rows, minutes=1) == ["dies"]
    assert gpu_check.check({"late": lives}, rows, minutes=-1) == ["late"]
    rows.close()
    assert rows_of(path)[1:] == [
        {"section": "dies", "failed": "RuntimeError: CUDA error: an illegal memory access"},
        {"section": "lives", "y": 2},
        {"section": "late", "failed": "CheckError: not begun within -1 minutes"},
    ]


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"tests": 3, "skipped": 1}, "1 skipped"),
        ({"tests": 3, "failures": 2, "status": 1}, "2 failures"),
        ({"tests": 0, "status": 5}, "no test ran"),
        ({"tests": 2}, None),
    ],
)
def test_a_skip_is_a_failure(counts: dict[str, int], said: str | None) -> None:
    row = {"command": "pytest x", "failures": 0, "errors": 0, "skipped": 0, "status": 0, **counts}
    if said is None:
        gpu_check.complain(row)
        return
    with pytest.raises(gpu_check.CheckError, match=said):
        gpu_check.complain(row)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cpu", "--only", "speed"], "--only: got speed, there are backend"),
        pytest.param(
            [], "--device: got cuda, but torch sees no CUDA device",
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU"),
        ),
    ],
)  # fmt: skip
def test_bad_arguments(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        gpu_check.main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="they would run")
def test_runs_of_tests_are_counted() -> None:
    row = gpu_check.run_tests(gpu_check.sys.executable, ["-m", "cuda", "cuda/test_cuda.py"])
    assert row["tests"] == row["skipped"] > 10
    with pytest.raises(gpu_check.CheckError, match=r"\d+ skipped"):
        gpu_check.complain(row)
