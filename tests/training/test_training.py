from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support.processes import join, said, start_two
from support.synthetic import TINY, ending_after, write_text

import ems_fast
from ems_fast import BinaryCorpus, InputError, ModelConfig
from ems_fast.errors import TrainingError
from ems_fast.runs.folder import RunFolder
from ems_fast.training import split_options

MODEL = ModelConfig(**TINY)
QUICK = {"batch_pairs": 16, "precision": "fp32", "log_steps": 1, "evaluations": 1}


def losses(folder: Path) -> list[float]:
    return [line["loss"] for line in RunFolder(folder).read_metrics() if line["event"] == "train"]


def fit(corpus: BinaryCorpus, folder: Path, **options: object) -> ems_fast.TrainResult:
    settings = {"model": MODEL, "device": "cpu", "progress": False, **QUICK, **options}
    return ems_fast.train(corpus.path, folder, **settings)


def test_a_run_learns_to_translate(run: Path) -> None:
    scores = [line for line in RunFolder(run).read_metrics() if line["event"] == "evaluation"]
    assert scores[-1]["accuracy"]["held-out"] > 0.5  # chance is 1/20
    curve = losses(run)
    assert curve[-1] < 0.75 * curve[0]


def test_a_run_is_a_readable_folder(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert {
        "config.toml",
        "report.html",
        "tokenizer.model",
        "model.safetensors",
        "metrics.jsonl",
    } <= names
    assert (run / "checkpoints" / "last.pt").is_file()
    assert 'languages = [\n    "en",' in (run / "config.toml").read_text()
    assert any((run / "tensorboard").iterdir())


def test_same_seed_same_losses(corpus: BinaryCorpus, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        fit(corpus, tmp_path / name, max_steps=6, seed=seed)
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert losses(tmp_path / "a") != losses(tmp_path / "c")


@pytest.mark.parametrize("optimizer", ["adamw", "adam-amsgrad"])
def test_resuming_is_exact(corpus: BinaryCorpus, tmp_path: Path, optimizer: str) -> None:
    """k steps, a resume and k more steps give the same weights as 2k steps, bit for bit."""
    model = ModelConfig(**{**TINY, "dropout": 0.1})
    options = {"model": model, "optimizer": optimizer, "warmup_steps": 4}
    fit(corpus, tmp_path / "whole", max_steps=12, **options)
    with ending_after(6):
        fit(corpus, tmp_path / "parts", max_steps=12, **options)
    assert len(losses(tmp_path / "parts")) == 6
    ems_fast.train(None, tmp_path / "parts", resume=True, device="cpu", progress=False)
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")
    one, other = (
        RunFolder(tmp_path / name).read_checkpoint()["model"] for name in ("whole", "parts")
    )
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_moved_run_resumes(tmp_path: Path) -> None:
    text = write_text(tmp_path / "text", n=100)
    model = ModelConfig(**{**TINY, "vocab_size": 400})
    options = {"device": "cpu", "progress": False}
    ems_fast.train(text, tmp_path / "here", model=model, max_steps=2, **options, **QUICK)
    (tmp_path / "here").rename(tmp_path / "there")
    result = ems_fast.train(None, tmp_path / "there", resume=True, max_steps=3, **options)
    assert result.metrics["steps"] == 3


def test_a_run_without_progress_ends_when_patience_does(
    corpus: BinaryCorpus, tmp_path: Path
) -> None:
    options = {"max_steps": 40, "evaluations": 10, "learning_rate": 1e-12, "weight_decay": 0.0}
    result = fit(corpus, tmp_path / "run", patience=2, **options)
    scores = [x for x in RunFolder(tmp_path / "run").read_metrics() if x["event"] == "evaluation"]
    assert len(scores) == 3  # the first is better than none
    assert result.metrics["steps"] == scores[-1]["step"] < 40
    assert not result.interrupted
    with pytest.raises(InputError, match="patience: got 0"):
        fit(corpus, tmp_path / "no", patience=0)


def test_resuming_can_lift_the_limit(corpus: BinaryCorpus, tmp_path: Path) -> None:
    fit(corpus, tmp_path / "run", max_steps=3)
    result = ems_fast.train(
        None, tmp_path / "run", resume=True, max_steps=5, device="cpu", progress=False
    )
    assert result.metrics["steps"] == 5
    assert RunFolder(tmp_path / "run").read_config()["limits"] == {"max_steps": 5}


def test_files_are_prepared_into_the_run(tmp_path: Path) -> None:
    text = write_text(tmp_path / "text", n=200)
    result = ems_fast.train(
        text, tmp_path / "run", model=ModelConfig(**{**TINY, "vocab_size": 400}),
        max_epochs=0.5, device="cpu", progress=False, prepare_options={"valid_pairs": 5}, **QUICK,
    )  # fmt: skip
    assert result.metrics["pairs"] >= 0.5 * result.corpus.num_pairs
    assert (tmp_path / "run" / "corpus" / "corpus.json").is_file()
    assert result.encoder.encode(["a b"]).shape == (1, 32)
    assert result.encoder.languages[0] == "en"


def test_a_corpus_without_held_out_pairs(tmp_path: Path) -> None:
    text = write_text(tmp_path / "text", languages=("de",), n=60)
    result = ems_fast.train(
        text, tmp_path / "run", model=ModelConfig(**{**TINY, "vocab_size": 300}), max_steps=2,
        device="cpu", progress=False, prepare_options={"valid_pairs": 0}, **QUICK,
    )  # fmt: skip
    assert result.metrics["accuracy"] == {}
    assert result.encoder.encode(["ba"]).shape == (1, 32)


def test_evaluation_sets_are_scored(corpus: BinaryCorpus, tmp_path: Path) -> None:
    sets = tmp_path / "sets"
    sets.mkdir()
    source, target = zip(*corpus.shards[0].valid_pairs(), strict=True)
    language = corpus.shards[0].target
    (sets / "mine.en").write_text("\n".join(source) + "\n")
    (sets / f"mine.{language}").write_text("\n".join(target) + "\n")
    result = fit(corpus, tmp_path / "run", max_steps=2, eval_sets=sets)
    assert set(result.metrics["accuracy"]) == {"held-out", "mine"}


@pytest.mark.parametrize("off", ["xtr_weight", "contrastive_weight"])
def test_one_objective_alone(corpus: BinaryCorpus, tmp_path: Path, off: str) -> None:
    result = fit(corpus, tmp_path / "run", max_steps=2, **{off: 0.0})
    assert result.metrics["steps"] == 2


def test_minutes_limit_a_run(corpus: BinaryCorpus, tmp_path: Path) -> None:
    begun = time.perf_counter()
    result = fit(corpus, tmp_path / "run", max_minutes=0.02)
    assert result.metrics["minutes"] >= 0.02
    assert time.perf_counter() - begun < 30


def test_a_loss_that_is_no_number_stops_the_run(corpus: BinaryCorpus, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the loss became .* by step .* lower learning_rate"):
        fit(corpus, tmp_path / "run", max_steps=20, learning_rate=1e38, max_gradient_norm=0.0)
    assert RunFolder(tmp_path / "run").read_checkpoint()["progress"]["step"] == 0


SCRIPT = """
import sys, ems_fast
from ems_fast import ModelConfig
ems_fast.train({corpus!r}, {run!r}, model=ModelConfig(**{tiny!r}), max_minutes=5, device="cpu",
               progress=False, **{quick!r})
"""


def test_interrupting_saves_the_run(corpus: BinaryCorpus, tmp_path: Path) -> None:
    run = tmp_path / "run"
    code = SCRIPT.format(corpus=str(corpus.path), run=str(run), tiny=TINY, quick=QUICK)
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path)
    deadline = time.monotonic() + 60
    while len(losses(run)) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0
    steps = len(losses(run))
    assert steps >= 3
    assert ems_fast.load(run).encode(["ba"]).shape == (1, 32)
    result = ems_fast.train(
        None, run, resume=True, max_steps=steps + 2, max_minutes=None, device="cpu", progress=False
    )
    assert result.metrics["steps"] == steps + 2


@pytest.mark.parametrize("slice_tokens", [None, 60])
def test_two_ranks_equal_one(
    corpus: BinaryCorpus, tmp_path: Path, slice_tokens: int | None
) -> None:
    """The same global batches on two processes give the same weights as on one."""
    fit(corpus, tmp_path / "one", max_steps=4)
    run, options = tmp_path / "two", {**QUICK, "batch_pairs": 8, "slice_tokens": slice_tokens}
    codes = join(*start_two(corpus.path, run, max_steps=4, **options))
    assert codes == [0, 0], said(run, 0).read_text() + said(run, 1).read_text()
    one, two = (RunFolder(tmp_path / name).read_checkpoint()["model"] for name in ("one", "two"))
    for name, weight in one.items():
        np.testing.assert_allclose(two[name].numpy(), weight.numpy(), atol=1e-5, err_msg=name)


# -- bad input ---------------------------------------------------------------------------------


def test_a_folder_with_another_run_is_left_alone(run: Path, corpus: BinaryCorpus) -> None:
    before = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"already holds a run; continue it with resume=True"):
        fit(corpus, run, max_steps=1)
    assert (run / "metrics.jsonl").read_bytes() == before


def test_a_folder_with_something_else(corpus: BinaryCorpus, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="is not empty; choose another folder"):
        fit(corpus, tmp_path, max_steps=1)


def test_a_corpus_of_one_pair(tmp_path: Path) -> None:
    (tmp_path / "en-de.tsv").write_text("hello there\thallo du\n")
    with pytest.raises(InputError, match="1 pair is left to train on, expected at least 2"):
        ems_fast.train(tmp_path / "en-de.tsv", tmp_path / "run", progress=False, batch_pairs=1)


def test_what_was_prepared_before_a_failure_can_be_used(tmp_path: Path) -> None:
    text, run = write_text(tmp_path / "text", n=60), tmp_path / "run"
    options = {"model": ModelConfig(**{**TINY, "vocab_size": 300}), "device": "cpu"}
    options |= {"max_steps": 1, "progress": False}
    with pytest.raises(InputError, match="batch_pairs: 1000 pairs a step"):
        ems_fast.train(text, run, batch_pairs=1000, **options)
    with pytest.raises(InputError, match=r"holds a corpus and no run; to train on that, give"):
        ems_fast.train(text, run, batch_pairs=10, **options)
    result = ems_fast.train(run / "corpus", run, batch_pairs=10, **options)
    assert result.metrics["steps"] == 1


def test_resuming_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no model"):
        ems_fast.train(None, tmp_path, resume=True, progress=False)


def test_a_damaged_checkpoint(corpus: BinaryCorpus, tmp_path: Path) -> None:
    fit(corpus, tmp_path / "run", max_steps=1)
    checkpoint = RunFolder(tmp_path / "run").checkpoint
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(InputError, match=r"last\.pt: cannot be read"):
        ems_fast.train(None, tmp_path / "run", resume=True, progress=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"learning_rat": 1.0},
            "learning_rat: no such training option; did you mean 'learning_rate'",
        ),
        ({"learning_rate": "fast"}, "learning_rate: got 'fast', expected float"),
        ({"learning_rate": -1.0}, "learning_rate: got -1.0, expected more than 0"),
        ({"max_steps": 0}, "max_steps: got 0, expected more than 0"),
        ({"batch_pairs": True}, "batch_pairs: got True, expected int"),
        ({"temperature": 0.0}, "temperature: got 0.0, expected more than 0"),
        ({"xtr_weight": 0.0, "contrastive_weight": 0.0}, "both are 0"),
        ({"contrastive_weight": -1.0}, "contrastive_weight: got -1.0, expected 0 or more"),
        ({"optimizer": "sgd"}, "optimizer: got 'sgd', expected one of 'adamw', 'adam-amsgrad'"),
        ({"impl": "magic"}, "impl: got 'magic', expected one of 'fused', 'reference', 'compiled'"),
        ({"weighting": "tfidf"}, "weighting: got 'tfidf', expected one of 'count'"),
        ({"sampling_exponent": 2.0}, "sampling_exponent: got 2.0, expected between 0 and 1"),
    ],
)
def test_bad_options(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        split_options(options)


def test_options_survive_the_config(run: Path) -> None:
    document = RunFolder(run).read_config()
    assert document["optimizer"]["learning_rate"] == 1e-2
    assert json.loads(json.dumps(document["model"]))["width"] == 32


@pytest.mark.parametrize("device", ["cuda", "abacus"])
def test_a_device_that_is_not_there(corpus: BinaryCorpus, tmp_path: Path, device: str) -> None:
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(InputError, match=f"device: got '{device}'"):
        fit(corpus, tmp_path / "run", max_steps=1, device=device)


def test_a_model_that_reads_less_than_the_corpus_has(corpus: BinaryCorpus, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="model: reads 10 tokens"):
        fit(corpus, tmp_path / "run", max_steps=1, model=ModelConfig(**{**TINY, "max_tokens": 10}))
    assert not (tmp_path / "run").exists()
