"""What a run will come to, tried out."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from support.synthetic import write_text

import ems_fast
from ems_fast import BinaryCorpus, InputError, TrainingError
from ems_fast.cli import main
from ems_fast.training import planning

QUICK = {"probe_minutes": 0.1, "device": "cpu"}


def test_a_prepared_corpus(corpus: BinaryCorpus) -> None:
    plan = ems_fast.plan(corpus.path, minutes=30, **QUICK)
    assert plan.model == "phrases"
    assert plan.vocab_size == corpus.vocab_size
    assert plan.corpus_pairs == corpus.num_pairs
    assert plan.batch_pairs == corpus.num_pairs // 8
    assert plan.complete
    assert plan.pairs_seen == round(plan.pairs_per_second * 1800)
    assert plan.passes == pytest.approx(plan.pairs_seen / corpus.num_pairs)
    assert 50 < plan.memory_mb < 5000
    assert plan.model_mb > 0.5  # 600 tokens of 256 coordinates
    assert plan.checkpoint_mb > plan.model_mb
    assert "passes over the text" in plan.notes[0]
    wanted = ["ems-fast", "train", str(corpus.path), "--output", "runs/first", "--model", "phrases"]
    assert shlex.split(plan.command) == [
        *wanted, "--max-minutes", "30", "--device", "cpu",
    ]  # fmt: skip


def test_text_is_sampled_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(planning, "_SAMPLE", 400)
    text = write_text(tmp_path / "text", ("de", "fr"), 600)
    options = ["--probe-minutes", "0.1", "--model", "static", "--device", "cpu"]
    assert main(["plan", str(text), *options, "--json", str(tmp_path / "plan.json")]) == 0
    found = json.loads((tmp_path / "plan.json").read_text())
    assert found["complete"]
    assert 1000 < found["corpus_pairs"] <= 1200
    assert found["vocab_size"] == 64_000
    assert found["model_mb"] == pytest.approx(64_000 * 256 * 4 / 1e6, rel=0.05)
    said = capsys.readouterr().out
    assert "Measured on the first 400 pairs" in said
    assert said.strip().endswith(found["command"])
    assert {path.name for path in tmp_path.iterdir()} == {"text", "plan.json"}


def test_a_text_that_is_too_long_to_count() -> None:
    class Endless:
        name = "endless"

        def __iter__(self):  # type: ignore[no-untyped-def]
            while True:
                yield ("a", "b", "en", "de", None)

    sample = planning._Sample.of([Endless()], deadline=0.0)
    assert len(sample.pairs) == planning._SAMPLE
    assert not sample.complete


def test_what_cannot_be_planned_is_refused(corpus: BinaryCorpus, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="minutes: got 0"):
        ems_fast.plan(corpus.path, minutes=0)
    with pytest.raises(InputError, match="model: got 'large'"):
        ems_fast.plan(corpus.path, model="large")
    with pytest.raises(InputError, match="is prepared already"):
        ems_fast.plan(corpus.path, languages="en-de")
    with pytest.raises(TrainingError, match=r"the probe's training failed: .*device: got 'abacus'"):
        ems_fast.plan(corpus.path, probe_minutes=0.1, device="abacus")
