"""Training for long and with resumes grows nothing, and a killed rank costs nothing but time."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from support.fingerprint import MODELS
from support.processes import join, said, start_ranks

from ems_fast import BinaryCorpus
from ems_fast.runs.folder import RunFolder

TESTS = Path(__file__).parents[1]
# How long the long form trains, of each model, with and without legs.
MINUTES = float(os.environ.get("EMS_SOAK_MINUTES", "1"))
# What memory may grow by after the first tenth of a run: allocators take a little while to settle.
GROWTH = 32 << 20

RANKS = {
    "max_steps": 24, "batch_pairs": 8, "precision": "fp32", "log_steps": 1, "evaluations": 3,
    "evaluation_pairs": 5, "checkpoint_minutes": 0.0, "rank_timeout_minutes": 0.2,
}  # fmt: skip


def weights(run: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = RunFolder(run).read_checkpoint()["model"]
    return state


def losses(run: Path) -> list[tuple[int, float]]:
    events = RunFolder(run).read_metrics()
    return [(event["step"], event["loss"]) for event in events if event["event"] == "train"]


def train_in_legs(
    corpus: BinaryCorpus, run: Path, model: str, steps: int, legs: int
) -> list[dict[str, int]]:
    arguments = [str(corpus.path), str(run), model, str(steps), str(legs)]
    done = subprocess.run(
        [sys.executable, "-m", "support.endurance", *arguments],
        cwd=TESTS, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.skipif(sys.platform != "linux", reason="reads what a process holds from /proc")
@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("minutes", [0, pytest.param(MINUTES, marks=pytest.mark.slow)])
def test_resumes_change_nothing_and_nothing_grows(
    corpus: BinaryCorpus, tmp_path: Path, model: str, minutes: float
) -> None:
    steps, legs = 100, 5
    if minutes:
        begun = time.monotonic()
        train_in_legs(corpus, tmp_path / "pace", model, 400, 1)
        legs = 40
        pace = 400 / (time.monotonic() - begun)
        steps = 10 * legs * max(int(pace * 60 * minutes / (10 * legs)), 1)  # legs end at log lines
    whole, interrupted = tmp_path / "whole", tmp_path / "interrupted"
    train_in_legs(corpus, whole, model, steps, 1)
    held = train_in_legs(corpus, interrupted, model, steps, legs)
    settled = held[max(legs // 10, 1) :]
    print(f"{model}, {steps} steps in {legs} legs: {held[0]} … {settled[0]} … {held[-1]}")
    assert max(leg["files"] for leg in settled) <= settled[0]["files"]
    assert max(leg["threads"] for leg in settled) <= settled[0]["threads"]
    assert settled[-1]["memory"] - settled[0]["memory"] < GROWTH
    assert weights(whole).keys() == weights(interrupted).keys()
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(interrupted)[name]), name
    assert losses(whole) == losses(interrupted)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("world", "kills"),
    [(2, 25), (4, 25)],  # tests/distributed has single ones
)
def test_a_rank_that_is_killed_anywhere_costs_time_only(
    corpus: BinaryCorpus, tmp_path: Path, world: int, kills: int
) -> None:
    undisturbed = tmp_path / "undisturbed"
    begun = time.monotonic()
    assert join(*start_ranks(world, corpus.path, undisturbed, **RANKS)) == [0] * world
    seconds = time.monotonic() - begun
    rng = random.Random(world * kills)
    killed, runs = 0, 0
    ends: Counter[object] = Counter()
    while killed < kills:
        run = tmp_path / f"run{runs}"
        runs += 1
        while True:
            ranks = start_ranks(world, corpus.path, run, resume="auto", **RANKS)
            if killed < kills:
                victim = rng.randrange(world)
                ranks[victim].join(timeout=rng.uniform(0, seconds))
                ranks[victim].kill()
                codes = join(*ranks, timeout=120)
                killed += codes[victim] == -9
                for rank in set(range(world)) - {victim}:
                    ends[codes[rank]] += 1
                    told = said(run, rank).read_text()
                    assert codes[rank] in (0, 2), told
                    assert codes[rank] == 0 or "ems-fast: " in told, told
            else:
                codes = join(*ranks, timeout=120)
            if codes == [0] * world:
                break
        assert losses(run) == losses(undisturbed)
        for name, tensor in weights(undisturbed).items():
            assert torch.equal(tensor, weights(run)[name]), name
    print(f"{world} ranks, {killed} kills in {runs} runs; the others ended with {dict(ends)}")
