"""A loss or gradient that is no number never reaches the weights."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from support.synthetic import TINY

import ems_fast
from ems_fast import BinaryCorpus, InputError, ModelConfig
from ems_fast.errors import TrainingError
from ems_fast.runs.folder import RunFolder
from ems_fast.training import split_options
from ems_fast.training.batch_file import load_batch
from ems_fast.training.batches.batch import Batch
from ems_fast.training.objective import Losses, Objective
from ems_fast.training.trainer import Trainer

OPTIONS = {"batch_pairs": 16, "precision": "fp32", "log_steps": 1, "evaluations": 1}


def fit(corpus: BinaryCorpus, folder: Path, **options: object) -> ems_fast.TrainResult:
    settings = {"model": ModelConfig(**TINY), "device": "cpu", "progress": False, **OPTIONS}
    return ems_fast.train(corpus.path, folder, **{**settings, **options})


@pytest.fixture
def break_steps(monkeypatch: pytest.MonkeyPatch):
    """Makes the losses of some forward passes (counted from 1) NaN, infinite or underivable."""

    def install(steps: set[int], kind: str = "nan") -> list[Batch]:
        forward, seen = Objective.forward, []

        def broken(self: Objective, batch: Batch) -> Losses:
            losses = forward(self, batch)
            seen.append(batch)
            if len(seen) not in steps:
                return losses
            if kind == "gradient":  # d√x/dx at 0
                zero = losses.total - losses.total.detach()
                return losses._replace(total=losses.total + zero.abs().sqrt())
            return losses._replace(total=losses.total * float(kind))

        monkeypatch.setattr(Objective, "forward", broken)
        return seen

    return install


def lines(folder: Path, event: str) -> list[dict]:
    return [line for line in RunFolder(folder).read_metrics() if line["event"] == event]


@pytest.mark.parametrize("kind", ["nan", "inf", "gradient"])
def test_it_stops_and_saves_the_batch(
    corpus: BinaryCorpus, tmp_path: Path, break_steps, kind: str
) -> None:
    seen = break_steps({4}, kind)
    folder = RunFolder(tmp_path / "run")
    with pytest.raises(TrainingError, match=r"step4-rank0\.safetensors.*on_nan='skip'") as caught:
        fit(corpus, folder.path, max_steps=10, checkpoint_minutes=0.0)
    path = folder.bad_batches / "step4-rank0.safetensors"
    assert str(path) in str(caught.value)
    # Everything of the batch is there, and the loss can be computed again.
    saved, batch = load_batch(path), seen[3]
    assert saved.sentences.groups == batch.sentences.groups
    for a, b in ((saved.sentences.ids, batch.sentences.ids),
                 (saved.sentences.order, batch.sentences.order),
                 (saved.targets.weights, batch.targets.weights),
                 (saved.target_languages, batch.target_languages),
                 (saved.source_hashes, batch.source_hashes)):  # fmt: skip
        assert torch.equal(a, b)
    note, *pairs = path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
    assert "by step 4" in note
    texts = {
        tuple(corpus.tokenizer.decode(side.tolist()) for side in shard.pair(i))
        for shard in corpus.shards
        for i in range(shard.num_pairs)
    }
    assert len(pairs) == 16
    for pair in pairs:
        languages, source, target = pair.split("\t")
        assert languages in {"en-de", "en-fr"}
        assert (source, target) in texts
    # The run stands before that step, and its weights are numbers.
    state = folder.read_checkpoint()
    assert state["progress"]["step"] == 3
    assert all(bool(torch.isfinite(weight).all()) for weight in state["model"].values())


def test_a_stopped_run_resumes(corpus: BinaryCorpus, tmp_path: Path, break_steps) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Objective, "forward", Objective.forward)  # undone at the end
        break_steps({4})
        with pytest.raises(TrainingError):
            fit(corpus, tmp_path / "run", max_steps=6, checkpoint_minutes=0.0)
    result = ems_fast.train(None, tmp_path / "run", resume=True, progress=False, on_nan="skip")
    assert result.metrics["steps"] == 6
    assert result.metrics["skipped"] == 0


def test_it_skips(corpus: BinaryCorpus, tmp_path: Path, break_steps) -> None:
    """A skipped step leaves the weights and the optimiser's moments alone."""
    break_steps({3, 5, 6})
    result = fit(corpus, tmp_path / "run", max_steps=6, on_nan="skip", max_nan_steps=3)
    assert result.metrics["skipped"] == 3
    assert [line["step"] for line in lines(tmp_path / "run", "skipped")] == [3, 5, 6]
    assert [line["step"] for line in lines(tmp_path / "run", "train")] == [1, 2, 4]
    assert all(math.isfinite(line["loss"]) for line in lines(tmp_path / "run", "train"))
    state = RunFolder(tmp_path / "run").read_checkpoint()
    assert all(float(s["step"]) == 3 for s in state["optimizer"]["state"].values())
    assert state["progress"]["skipped"] == {"total": 3, "in_a_row": 2}
    for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=pytest.fail)  # NaN is no JSON


def test_logged_means_leave_skipped_steps_out(
    corpus: BinaryCorpus, tmp_path: Path, break_steps
) -> None:
    break_steps({2, 3})
    fit(corpus, tmp_path / "run", max_steps=4, log_steps=4, on_nan="skip")
    [mean] = lines(tmp_path / "run", "train")
    assert 0 < mean["loss"] < 100


def test_too_many_in_a_row_stop(corpus: BinaryCorpus, tmp_path: Path, break_steps) -> None:
    break_steps({2, 4, 5, 6})
    with pytest.raises(TrainingError, match=r"by step 6, bad step 3 in a row; its batch"):
        fit(corpus, tmp_path / "run", max_steps=20, on_nan="skip", max_nan_steps=3)
    assert len(lines(tmp_path / "run", "skipped")) == 4


def test_not_every_batch_is_kept(
    corpus: BinaryCorpus, tmp_path: Path, break_steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ems_fast.training.nonfinite.MAX_SAVED", 2)
    break_steps({1, 3, 5, 7})
    fit(corpus, tmp_path / "run", max_steps=8, on_nan="skip")
    saved = sorted(path.name for path in (tmp_path / "run" / "bad_batches").iterdir())
    assert saved == [f"step{n}-rank0.{kind}" for n in (1, 3) for kind in ("safetensors", "txt")]


def test_weights_that_are_no_numbers_are_not_saved(
    corpus: BinaryCorpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gradient of the last step before a checkpoint is finite, what it makes is not."""
    step = Trainer._step

    def poisoned(self: Trainer, batch: Batch, done: float) -> torch.Tensor:
        losses = step(self, batch, done)
        if self.progress.step == 2:
            with torch.no_grad():
                self.model.output.fill_(math.inf)
        return losses

    monkeypatch.setattr(Trainer, "_step", poisoned)
    with pytest.raises(TrainingError, match="the weights are no longer numbers after step 3"):
        fit(corpus, tmp_path / "run", max_steps=20, checkpoint_minutes=0.0)
    assert RunFolder(tmp_path / "run").read_checkpoint()["progress"]["step"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_nan": "pray"}, "on_nan: got 'pray', expected one of 'stop', 'skip'"),
        ({"max_nan_steps": 0}, "max_nan_steps: got 0, expected at least 1"),
        ({"checkpoint_minutes": -1.0}, r"checkpoint_minutes: got -1\.0, expected at least 0"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_options(options)


def test_a_file_that_is_no_batch(tmp_path: Path) -> None:
    (tmp_path / "x.safetensors").write_bytes(b"nonsense")
    for name in ("x.safetensors", "missing.safetensors"):
        with pytest.raises(InputError, match="is not a batch that training saved"):
            load_batch(tmp_path / name)
