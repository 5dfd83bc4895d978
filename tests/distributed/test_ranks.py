"""Several processes train together, also when one of them dies, hangs, or their number changes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support.processes import Deed, join, said, start_two
from support.synthetic import TINY

import ems_fast
from ems_fast import BinaryCorpus, InputError, ModelConfig
from ems_fast.runs.folder import RunFolder
from ems_fast.training.batches import BatchConfig

QUICK = {
    "batch_pairs": 8, "precision": "fp32", "log_steps": 1, "evaluations": 1,
    "checkpoint_minutes": 0.0,
}  # fmt: skip


def torchrun(corpus: BinaryCorpus, run: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Nine steps on two ranks, one of which is killed once."""
    script = run.with_suffix(".py")
    script.write_text(
        "import sys; from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        "from support.processes import Deed, train\n"
        f"train({str(corpus.path)!r}, {str(run)!r}, Deed('SIGKILL', Path({f'{run}.mark'!r})),\n"
        f"      resume='auto', max_steps=9, **{QUICK!r})\n"
    )
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--standalone",
         *arguments, str(script)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, cwd=run.parent, timeout=180,
        capture_output=True, text=True,
    )  # fmt: skip


def step_of(run: Path) -> int:
    return int(RunFolder(run).read_checkpoint()["progress"]["step"])


def weights(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = RunFolder(run).read_checkpoint()["model"]
    return state


def steps(run: Path) -> list[int]:
    return [ln["step"] for ln in RunFolder(run).read_metrics() if ln["event"] == "train"]


@pytest.mark.parametrize("victim", [pytest.param(0, marks=pytest.mark.slow), 1])
def test_a_killed_rank_ends_the_run(corpus: BinaryCorpus, tmp_path: Path, victim: int) -> None:
    """The other stops by itself, says why, and what both had done can be resumed."""
    run = tmp_path / "run"
    deed = Deed("SIGKILL", tmp_path / "mark", rank=victim)
    processes = start_two(corpus.path, run, deed=deed, max_steps=100_000, **QUICK)
    assert join(processes[victim]) == [-signal.SIGKILL]
    begun = time.monotonic()
    assert join(processes[1 - victim]) == [2]
    assert time.monotonic() - begun < 30
    message = said(run, 1 - victim).read_text()
    assert f"rank {1 - victim}: another process of this run ended or is silent" in message
    assert "start all of them again with --resume" in message
    assert step_of(run) == 5
    result = ems_fast.train(None, run, resume=True, max_steps=7, progress=False, device="cpu")
    assert result.metrics["steps"] == 7
    assert steps(run) == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.slow
def test_a_hanging_rank_ends_the_run(corpus: BinaryCorpus, tmp_path: Path) -> None:
    run, deed = tmp_path / "run", Deed("SIGSTOP", tmp_path / "mark")
    survivor, victim = start_two(
        corpus.path, run, deed=deed, max_steps=100_000, rank_timeout_minutes=0.3, **QUICK
    )
    try:
        assert join(survivor, timeout=120) == [2]
        assert "another process of this run ended or is silent" in said(run, 0).read_text()
        assert step_of(run) == 5
    finally:
        victim.kill()
        victim.join()


def test_stopping_one_rank_stops_all(corpus: BinaryCorpus, tmp_path: Path) -> None:
    run, deed = tmp_path / "run", Deed("SIGTERM", tmp_path / "mark")
    processes = start_two(corpus.path, run, deed=deed, max_steps=100_000, **QUICK)
    assert join(*processes) == [0, 0], said(run, 0).read_text() + said(run, 1).read_text()
    assert step_of(run) == 6


def test_torchrun_restarts_and_the_run_ends_as_an_undisturbed_one(
    corpus: BinaryCorpus, tmp_path: Path
) -> None:
    """Elastic: one rank is killed, torchrun starts both again, and they resume."""
    undisturbed = start_two(corpus.path, tmp_path / "undisturbed", max_steps=9, **QUICK)
    assert join(*undisturbed) == [0, 0]
    done = torchrun(corpus, tmp_path / "killed", "--max-restarts=1")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "killed.mark").exists()
    one, other = weights(tmp_path / "undisturbed"), weights(tmp_path / "killed")
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert steps(tmp_path / "killed") == list(range(1, 10))


@pytest.mark.slow
def test_torchrun_without_restarts_fails(corpus: BinaryCorpus, tmp_path: Path) -> None:
    begun = time.monotonic()
    done = torchrun(corpus, tmp_path / "run")
    assert done.returncode != 0
    assert time.monotonic() - begun < 120
    assert step_of(tmp_path / "run") == 5


@pytest.mark.parametrize("on_nan", ["stop", "skip"])
def test_all_ranks_decide_alike_on_a_bad_step(
    corpus: BinaryCorpus, tmp_path: Path, on_nan: str
) -> None:
    """Only rank 1's part of the batch is bad."""
    run, deed = tmp_path / "run", Deed("nan", tmp_path / "mark")
    codes = join(*start_two(corpus.path, run, deed=deed, max_steps=8, on_nan=on_nan, **QUICK))
    messages = [said(run, rank).read_text() for rank in (0, 1)]
    progress = RunFolder(run).read_checkpoint()["progress"]
    if on_nan == "stop":
        assert codes == [2, 2], messages
        assert progress["step"] == 5
        assert "this rank's loss is a number, so the cause is on another" in messages[0]
        for rank in (0, 1):
            assert f"step6-rank{rank}.safetensors" in messages[rank]
    else:
        assert codes == [0, 0], messages
        assert progress["step"] == 8
        assert progress["skipped"] == {"total": 1, "in_a_row": 0}
    assert {path.name for path in (run / "bad_batches").iterdir()} == {
        f"step6-rank{rank}.{kind}" for rank in (0, 1) for kind in ("safetensors", "txt")
    }


@pytest.mark.parametrize(
    "size", [{"batch_pairs": 8}, pytest.param({"batch_tokens": 960}, marks=pytest.mark.slow)]
)
def test_a_run_of_two_ranks_goes_on_with_one(
    corpus: BinaryCorpus, tmp_path: Path, size: dict[str, int]
) -> None:
    """The batch of all ranks stays the same, and so does the run but for rounding."""
    options = {**QUICK, "batch_pairs": None, **size, "max_steps": 8}
    assert join(*start_two(corpus.path, tmp_path / "whole", **options)) == [0, 0]
    run, deed = tmp_path / "cut", Deed("SIGKILL", tmp_path / "mark", after=4)
    join(*start_two(corpus.path, run, deed=deed, **options))
    assert step_of(run) == 4
    ems_fast.train(None, run, resume=True, progress=False, device="cpu")
    one, other = weights(tmp_path / "whole"), weights(run)
    for name, weight in one.items():
        np.testing.assert_allclose(other[name].numpy(), weight.numpy(), atol=1e-4, err_msg=name)
    [name] = size
    config = RunFolder(run).read_config()
    assert config["batches"][name] == 2 * size[name]
    assert config["data"]["ranks"] == 1


def test_two_ranks_equal_one_with_a_token_budget(corpus: BinaryCorpus, tmp_path: Path) -> None:
    """Batches of different numbers of pairs, on two ranks and on one: the same weights."""
    options = {**QUICK, "batch_pairs": None, "max_steps": 6}
    join(*start_two(corpus.path, tmp_path / "two", batch_tokens=960, **options))
    ems_fast.train(
        corpus.path, tmp_path / "one", model=ModelConfig(**TINY), device="cpu", progress=False,
        batch_tokens=1920, **options,
    )  # fmt: skip
    assert (
        RunFolder(tmp_path / "one").read_checkpoint()["progress"]["sampler"]
        == (RunFolder(tmp_path / "two").read_checkpoint()["progress"]["sampler"])
    )
    one, two = weights(tmp_path / "one"), weights(tmp_path / "two")
    for name, weight in one.items():
        np.testing.assert_allclose(two[name].numpy(), weight.numpy(), atol=1e-5, err_msg=name)


def test_a_batch_that_the_ranks_cannot_share() -> None:
    assert BatchConfig(batch_pairs=6).for_ranks(3, before=2) == BatchConfig(batch_pairs=4)
    with pytest.raises(
        InputError, match=r"batch_pairs: the run has 16 a step over 2 ranks, which "
    ):
        BatchConfig(batch_pairs=8).for_ranks(3, before=2)
    with pytest.raises(InputError, match=r"give batch_tokens \(for a batch of another size\)"):
        BatchConfig(batch_tokens=1000).for_ranks(3, before=1)


def test_a_timeout_of_nothing(corpus: BinaryCorpus, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rank_timeout_minutes: got 0\.0, expected more than 0"):
        ems_fast.train(
            corpus.path, tmp_path / "run", model=ModelConfig(**TINY), rank_timeout_minutes=0.0
        )
