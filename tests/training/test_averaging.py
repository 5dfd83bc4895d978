"""The moving average of the weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from support.processes import join, said, start_two
from support.synthetic import TINY, ending_after

import ems_fast
from ems_fast import BinaryCorpus, InputError, ModelConfig
from ems_fast.runs.folder import RunFolder
from ems_fast.training.trainer import Trainer

PHRASES = ModelConfig(layers=0, width=16, reconstruction=False, phrases=40)
LAYERS = ModelConfig(**TINY)
QUICK = {
    "batch_pairs": 8, "log_steps": 1, "evaluations": 1, "precision": "fp32", "device": "cpu",
    "progress": False, "ema": 0.8,
}  # fmt: skip


@pytest.fixture(params=[PHRASES, LAYERS], ids=["phrases", "layers"])
def model(request: pytest.FixtureRequest) -> ModelConfig:
    config: ModelConfig = request.param
    return config


def test_what_is_saved_is_the_average_of_all_steps(
    corpus: BinaryCorpus, tmp_path: Path, model: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against the definition, step by step over all weights."""
    wanted: dict[str, torch.Tensor] = {}
    step = Trainer._step

    def averaged(trainer: Trainer, *arguments: object) -> torch.Tensor:
        now = trainer.model.state_dict()
        if not wanted:
            wanted.update({name: w.double() for name, w in now.items()})
        losses = step(trainer, *arguments)  # type: ignore[arg-type]
        for name, weight in trainer.model.state_dict().items():
            wanted[name] = 0.8 * wanted[name] + 0.2 * weight.double()
        return losses

    monkeypatch.setattr(Trainer, "_step", averaged)
    ems_fast.train(corpus.path, tmp_path / "run", model=model, max_steps=12, **QUICK)
    saved = RunFolder(tmp_path / "run").read_weights()
    for name, weight in saved.items():
        torch.testing.assert_close(weight.double(), wanted[name], atol=1e-6, rtol=1e-5)
    last = RunFolder(tmp_path / "run").read_checkpoint()["model"]
    assert any(not torch.allclose(last[name], saved[name], atol=1e-4) for name in saved)


def test_resuming_is_exact(corpus: BinaryCorpus, tmp_path: Path, model: ModelConfig) -> None:
    ems_fast.train(corpus.path, tmp_path / "whole", model=model, max_steps=8, **QUICK)
    with ending_after(4):
        ems_fast.train(corpus.path, tmp_path / "parts", model=model, max_steps=8, **QUICK)
    ems_fast.train(None, tmp_path / "parts", resume=True, device="cpu", progress=False)
    one, other = (RunFolder(tmp_path / name).read_checkpoint() for name in ("whole", "parts"))
    for group in (lambda state: state["model"], lambda state: state["average"]["averages"]):
        assert all(torch.equal(group(one)[name], group(other)[name]) for name in group(one))


def test_weights_are_trained_as_without(corpus: BinaryCorpus, tmp_path: Path) -> None:
    for name, ema in (("with", 0.9), ("without", None)):
        options = {**QUICK, "ema": ema, "evaluations": 3}
        ems_fast.train(corpus.path, tmp_path / name, model=PHRASES, max_steps=6, **options)
    one, other = (RunFolder(tmp_path / n).read_checkpoint()["model"] for n in ("with", "without"))
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_it_can_begin_when_a_run_is_resumed(corpus: BinaryCorpus, tmp_path: Path) -> None:
    run = tmp_path / "run"
    ems_fast.train(corpus.path, run, model=PHRASES, max_steps=3, **{**QUICK, "ema": None})
    before = RunFolder(run).read_checkpoint()["model"]
    options = {"max_steps": 4, "ema": 0.999999, "device": "cpu", "progress": False}
    ems_fast.train(None, run, resume=True, **options)
    averages = RunFolder(run).read_checkpoint()["average"]["averages"]
    assert all(torch.allclose(averages[name], before[name], atol=1e-5) for name in averages)


def test_two_ranks_average_as_one(corpus: BinaryCorpus, tmp_path: Path) -> None:
    ems_fast.train(
        corpus.path, tmp_path / "one", model=PHRASES, max_steps=3, **{**QUICK, "batch_pairs": 16}
    )
    run = tmp_path / "two"
    codes = join(*start_two(corpus.path, run, model=PHRASES, max_steps=3, **QUICK))
    assert codes == [0, 0], said(run, 0).read_text() + said(run, 1).read_text()
    one, two = RunFolder(tmp_path / "one").read_weights(), RunFolder(run).read_weights()
    for name, weight in one.items():
        torch.testing.assert_close(two[name], weight, atol=1e-3, rtol=0.0)


@pytest.mark.parametrize("ema", [0.0, 1.0, -0.5])
def test_a_decay_that_is_none(corpus: BinaryCorpus, tmp_path: Path, ema: float) -> None:
    with pytest.raises(InputError, match=f"ema: got {ema}, expected above 0 and below 1"):
        ems_fast.train(corpus.path, tmp_path / "no", model=PHRASES, ema=ema)
