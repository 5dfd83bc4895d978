"""kill -9 at any moment leaves a run that can be loaded, resumed and ends as if nothing was."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from support import processes
from support.synthetic import TINY, write_text

import ems_fast
from ems_fast import BinaryCorpus
from ems_fast.files.atomic import temporary_files
from ems_fast.runs.folder import RunFolder

STEPS = 60
# A checkpoint after every step: writing them takes most of the time, so most kills meet one.
OPTIONS = {
    "max_steps": STEPS, "batch_pairs": 16, "precision": "fp32", "log_steps": 1, "evaluations": 6,
    "checkpoint_minutes": 0.0, "evaluation_pairs": 5, "learning_rate": 1e-2,
}  # fmt: skip


def step_of(folder: RunFolder) -> int:
    return int(folder.read_checkpoint()["progress"]["step"])


def curve(folder: RunFolder) -> list[tuple[int, float]]:
    lines = [line for line in folder.read_metrics() if line["event"] == "train"]
    return [(line["step"], line["loss"]) for line in lines]


def wait_until(process: BaseProcess, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while process.is_alive() and not condition():
        assert time.monotonic() < deadline
        time.sleep(0.0005)


def kill_somewhere(process: BaseProcess, folder: RunFolder, rng: random.Random) -> None:
    """Within a second, or in the middle of writing a checkpoint."""
    seconds = rng.uniform(0.0, 0.6)
    begun = time.monotonic()
    wait_until(process, lambda: time.monotonic() - begun > seconds)
    if rng.random() < 0.5:
        wait_until(process, lambda: temporary_files(folder.checkpoint) != [])
    process.kill()
    process.join()


@pytest.mark.parametrize("kills", [5, pytest.param(50, marks=pytest.mark.slow)])
def test_killed_runs_end_as_undisturbed_ones(
    corpus: BinaryCorpus, tmp_path: Path, kills: int
) -> None:
    undisturbed = RunFolder(tmp_path / "undisturbed")
    process = processes.start(corpus.path, undisturbed.path, resume="auto", **OPTIONS)
    process.join(timeout=120)
    assert process.exitcode == 0

    rng = random.Random(kills)
    killed = 0
    for attempt in range(1000):
        folder = RunFolder(tmp_path / f"killed{attempt}")
        reached = 0
        while True:
            process = processes.start(corpus.path, folder.path, resume="auto", **OPTIONS)
            if killed == kills:
                process.join(timeout=120)
            else:
                kill_somewhere(process, folder, rng)
            if process.exitcode == 0:
                break
            assert process.exitcode == -9
            killed += 1
            if folder.checkpoint.exists():
                step = step_of(folder)  # can be read
                assert step >= reached  # and nothing that was in one is lost
                reached = step
            if folder.weights.exists():
                assert ems_fast.load(folder.path).encode(["ba"]).shape == (1, 32)
        one, other = (f.read_checkpoint() for f in (undisturbed, folder))
        assert {k: v for k, v in one["progress"].items() if k != "seconds"} == {
            k: v for k, v in other["progress"].items() if k != "seconds"
        }
        for weights in ((one["model"], other["model"]),
                        (undisturbed.read_weights(), folder.read_weights())):  # fmt: skip
            assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
        assert curve(folder) == curve(undisturbed)
        assert [step for step, _ in curve(folder)] == list(range(1, STEPS + 1))
        if killed == kills:
            return


def test_resuming_goes_on_from_the_last_checkpoint(corpus: BinaryCorpus, tmp_path: Path) -> None:
    """Of a killed run, no more is done again than what followed its last checkpoint."""
    folder = RunFolder(tmp_path / "run")
    options = {**OPTIONS, "max_steps": 100_000, "evaluations": 1}
    process = processes.start(corpus.path, folder.path, resume="auto", **options)
    wait_until(process, lambda: len(curve(folder)) >= 5)
    process.kill()
    process.join()
    step = step_of(folder)
    assert step >= 4
    folder.metrics.unlink()
    ems_fast.train(None, folder.path, resume=True, max_steps=step + 3, progress=False, device="cpu")
    assert [number for number, _ in curve(folder)] == [step + 1, step + 2, step + 3]


def test_a_start_that_was_killed_early_starts_again(corpus: BinaryCorpus, tmp_path: Path) -> None:
    """What may lie in the folder before the run's first file that counts, config.toml."""
    folder = RunFolder(tmp_path / "run")
    folder.create()
    (folder.path / "tensorboard").mkdir()
    (folder.path / ".tokenizer.model.tmp").write_bytes(b"half of i")
    (folder.path / ".config.toml.tmp").write_text("forma")
    options = {"model": ems_fast.ModelConfig(**TINY), "max_steps": 1, "batch_pairs": 8}
    with pytest.raises(ems_fast.InputError, match="is not empty"):
        ems_fast.train(corpus.path, folder.path, progress=False, **options)
    result = ems_fast.train(corpus.path, folder.path, resume="auto", progress=False, **options)
    assert result.metrics["steps"] == 1
    # A second call of the same kind finds the finished run.
    result = ems_fast.train(corpus.path, folder.path, resume="auto", progress=False, **options)
    assert result.metrics["steps"] == 1


def test_text_that_a_killed_start_prepared_is_used(tmp_path: Path) -> None:
    text = write_text(tmp_path / "text", n=100)
    run = RunFolder(tmp_path / "run")
    ems_fast.prepare(text, run.corpus, vocab_size=300, progress=False)
    before = (run.corpus / "corpus.json").stat()
    options = {"max_steps": 1, "batch_pairs": 8, "device": "cpu", "progress": False}
    model = ems_fast.ModelConfig(**TINY)
    ems_fast.train(text, run.path, model=model, resume="auto", **options)
    assert (run.corpus / "corpus.json").stat() == before


def test_resume_is_one_of_three(corpus: BinaryCorpus, tmp_path: Path) -> None:
    with pytest.raises(ems_fast.InputError, match="resume: got 'yes', expected True, False or"):
        ems_fast.train(corpus.path, tmp_path / "run", resume="yes", progress=False)
