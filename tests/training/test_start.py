"""Runs that begin with the weights of an earlier model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.synthetic import TINY, ending_after, write_text

import ems_fast
from ems_fast import BinaryCorpus, InputError, ModelConfig
from ems_fast.runs.folder import RunFolder

MODEL = ModelConfig(**TINY)
TABLE = ModelConfig(layers=0, width=32, reconstruction=False)
QUICK = {
    "batch_pairs": 32, "log_steps": 1, "evaluations": 1, "precision": "fp32", "device": "cpu",
    "progress": False,
}  # fmt: skip
TINY_STEP = {"learning_rate": 1e-12, "weight_decay": 0.0, "max_steps": 1}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return RunFolder(folder).read_checkpoint()["model"]


def event(folder: Path) -> dict[str, list[str]]:
    return next(line for line in RunFolder(folder).read_metrics() if line["event"] == "init")


@pytest.fixture(scope="module")
def table(corpus: BinaryCorpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables") / "table"
    ems_fast.train(corpus.path, folder, model=TABLE, max_steps=30, **QUICK)
    return folder


def test_a_run_goes_on_from_another(corpus: BinaryCorpus, run: Path, tmp_path: Path) -> None:
    ems_fast.train(corpus.path, tmp_path / "second", init=run, **QUICK, **TINY_STEP)
    before, after = RunFolder(run).read_weights(), weights(tmp_path / "second")
    assert before.keys() == after.keys()
    assert all(torch.allclose(before[name], after[name], atol=1e-8) for name in before)
    assert event(tmp_path / "second")["fresh"] == []
    assert str(run) in (tmp_path / "second" / "README.md").read_text()
    assert (tmp_path / "second" / "config.toml").read_text().count("learning_rate") == 1


def test_a_loaded_encoder_gives_its_part(corpus: BinaryCorpus, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "second"
    ems_fast.train(corpus.path, folder, init=ems_fast.load(run), **QUICK, **TINY_STEP)
    before, after = RunFolder(run).read_weights(), weights(folder)
    encoder = [name for name in before if name.startswith("encoder.")]
    assert all(torch.allclose(before[name], after[name], atol=1e-8) for name in encoder)
    assert not torch.allclose(before["output"], after["output"])
    assert {"output", "xtr_head.dense", "contrastive_head.inner"} <= {*event(folder)["fresh"]}


def test_a_shipped_model_goes_on(tmp_path: Path) -> None:
    text = write_text(tmp_path / "text", ("de",), 200)
    result = ems_fast.train(text, tmp_path / "run", init="multilingual", **QUICK, **TINY_STEP)
    sentence = ["Good morning, dear people of this town!"]
    shipped, ours = ems_fast.load().encode(sentence), result.encoder.encode(sentence)
    np.testing.assert_allclose(ours, shipped, atol=1e-6)


def test_a_table_grows_layers(corpus: BinaryCorpus, table: Path, tmp_path: Path) -> None:
    folder = tmp_path / "grown"
    ems_fast.train(corpus.path, folder, model=MODEL, init=table, **QUICK, **TINY_STEP)
    name = "encoder.tokens.weight"
    assert torch.allclose(weights(folder)[name], weights(table)[name], atol=1e-8)
    assert event(folder)["taken"] == ["encoder.tokens"]
    assert {"encoder.positions", "encoder.layers", "output"} <= {*event(folder)["fresh"]}


def test_resuming_needs_no_earlier_model(corpus: BinaryCorpus, table: Path, tmp_path: Path) -> None:
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    for name in ("config.toml", "tokenizer.model", "model.safetensors"):
        (earlier / name).write_bytes((table / name).read_bytes())
    options = {"model": MODEL, "init": earlier, "max_steps": 8, **QUICK}
    ems_fast.train(corpus.path, tmp_path / "whole", **options)
    with ending_after(4):
        ems_fast.train(corpus.path, tmp_path / "parts", **options)
    (earlier / "model.safetensors").unlink()
    ems_fast.train(None, tmp_path / "parts", resume=True, device="cpu", progress=False)
    whole, parts = weights(tmp_path / "whole"), weights(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)


def test_a_run_that_can_be_resumed_has_the_earlier_weights(
    corpus: BinaryCorpus, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed as soon as there is a run: its checkpoint is there already."""

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ems_fast.training.api.Trainer.run", killed)
    with pytest.raises(KeyboardInterrupt):
        ems_fast.train(corpus.path, tmp_path / "run", init=table, **QUICK)
    name = "encoder.tokens.weight"
    assert torch.equal(weights(tmp_path / "run")[name], RunFolder(table).read_weights()[name])


def test_languages_keep_their_rows(run: Path, tmp_path: Path) -> None:
    text = write_text(tmp_path / "text", ("nl", "fr"), 200)
    ems_fast.train(text, tmp_path / "second", init=run, **QUICK, **TINY_STEP)
    name = "xtr_head.languages.weight"
    old, new = (
        RunFolder(run).read_model_config(),
        RunFolder(tmp_path / "second").read_model_config(),
    )
    rows = [
        (folder[name][config.languages.index("fr")])
        for folder, config in (
            (RunFolder(run).read_weights(), old),
            (weights(tmp_path / "second"), new),
        )
    ]
    assert torch.allclose(*rows, atol=1e-8)


def test_text_is_prepared_as_the_model_reads(run: Path, tmp_path: Path) -> None:
    text = write_text(tmp_path / "text", ("nl",), 200)
    corpus = ems_fast.prepare(text, tmp_path / "corpus", tokenizer=run, progress=False)
    assert corpus.tokenizer_sha256 == ems_fast.load(run).tokenizer.sha256
    ems_fast.train(corpus.path, tmp_path / "second", init=run, **QUICK, **TINY_STEP)


def test_what_does_not_fit_is_refused(
    corpus: BinaryCorpus, run: Path, table: Path, tmp_path: Path
) -> None:
    def begin(corpora: Path | None, init: object, **options: object) -> None:
        ems_fast.train(corpora, tmp_path / "no", init=init, **{**QUICK, **options})

    other = ems_fast.prepare(
        write_text(tmp_path / "text", ("nl",), 200), tmp_path / "other", vocab_size=400,
        progress=False,
    )  # fmt: skip
    with pytest.raises(InputError, match=r"has layers 1, ffn_width 64, but .* has layers 2, ffn_w"):
        begin(corpus.path, run, model=replace(MODEL, layers=2, ffn_width=128))
    with pytest.raises(InputError, match="has layers 1, but the model to train has layers 0"):
        begin(corpus.path, run, model=replace(MODEL, layers=0))
    with pytest.raises(InputError, match=r"has projection_width 16, .* projection_width 8"):
        begin(corpus.path, run, model=replace(MODEL, projection_width=8))
    with pytest.raises(InputError, match="has width 32, but the model to train has width 64"):
        begin(corpus.path, table, model=replace(MODEL, width=64))
    with pytest.raises(InputError, match=r"another tokenizer.*--tokenizer"):
        begin(other.path, run)
    with pytest.raises(InputError, match="prepare_options: got vocab_size"):
        begin(tmp_path / "text", run, prepare_options={"vocab_size": 500})
    with pytest.raises(InputError, match="init: got an object of type int"):
        begin(corpus.path, 3)
    with pytest.raises(InputError, match="nor the name of a shipped"):
        begin(corpus.path, "no-such-model")
    with pytest.raises(InputError, match="resumed with its own weights"):
        ems_fast.train(None, run, resume=True, init=run)
    assert not (tmp_path / "no").exists()
