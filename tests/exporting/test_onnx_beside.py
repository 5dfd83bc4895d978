"""The folder of a token table with ONNX in it: each library that is said to load it does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import ems_fast
from ems_fast import InputError, SentenceEncoder
from ems_fast.cli import main

SENTENCES = ["bade gi", "mo", "kafu teru bade nile", "日本語", "bade gi " * 200]

pytestmark = pytest.mark.filterwarnings("default")  # those of other libraries


@pytest.fixture(scope="module", params=["table_run", "phrases_run"])
def table(request: pytest.FixtureRequest) -> SentenceEncoder:
    return ems_fast.load(request.getfixturevalue(request.param))


@pytest.fixture(scope="module")
def wanted(table: SentenceEncoder) -> np.ndarray:
    with pytest.warns(ems_fast.EncodingWarning, match="1 longer than 120 tokens"):
        return table.encode(SENTENCES)


@pytest.fixture(scope="module")
def folder(table: SentenceEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    for package in ("onnx", "onnxscript"):
        pytest.importorskip(package)
    path = tmp_path_factory.mktemp("exported") / "table"
    return ems_fast.export(table, path, to="sentence-transformers", with_onnx=True)


@pytest.mark.parametrize("backend", ["torch", "onnx"])
def test_sentence_transformers_loads_it(folder: Path, wanted: np.ndarray, backend: str) -> None:
    library = pytest.importorskip("sentence_transformers")
    phrases = not list(folder.glob("*_StaticEmbedding"))
    if phrases:
        if backend == "torch":
            pytest.skip("there is a graph alone")
        pytest.importorskip(
            "optimum.onnxruntime", reason="needs optimum-onnx", exc_type=ImportError
        )
    model = library.SentenceTransformer(str(folder), backend=backend, device="cpu")
    assert type(model[0]).__name__ == ("Transformer" if phrases else "StaticEmbedding")
    np.testing.assert_allclose(model.encode(SENTENCES), wanted, atol=1e-6)


def test_fastembed_loads_it(folder: Path, wanted: np.ndarray) -> None:
    fastembed = pytest.importorskip("fastembed", reason="needs the package fastembed")
    from fastembed.common.model_description import ModelSource, PoolingType

    name = f"own/{folder.parent.name}"
    fastembed.TextEmbedding.add_custom_model(
        name, pooling=PoolingType.DISABLED, normalization=False, dim=32,
        sources=ModelSource(hf=name),
    )  # fmt: skip
    model = fastembed.TextEmbedding(name, specific_model_path=str(folder))
    np.testing.assert_allclose(list(model.embed(SENTENCES)), wanted, atol=1e-6)


@pytest.mark.parametrize("table", ["table_run"], indirect=True)
def test_model2vec_loads_it(folder: Path, wanted: np.ndarray) -> None:
    library = pytest.importorskip("model2vec", reason="needs the package model2vec")
    # From 0.10 on, one function loads the folders of both libraries.
    name = "from_sentence_transformers"
    load = getattr(library.StaticModel, name, library.StaticModel.from_pretrained)
    vectors = load(str(folder)).encode(SENTENCES)
    np.testing.assert_allclose(vectors[:-1], wanted[:-1], atol=1e-6)  # it cuts elsewhere


def test_onnx_runtime_loads_it(folder: Path, wanted: np.ndarray) -> None:
    runtime = pytest.importorskip("onnxruntime")
    tokenizers = pytest.importorskip("tokenizers")
    tokens = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokens.enable_padding(pad_id=0)
    batch = tokens.encode_batch(SENTENCES)
    mask = np.array([sentence.attention_mask for sentence in batch])
    ids = np.array([sentence.ids for sentence in batch])
    vectors, hidden = runtime.InferenceSession(str(folder / "onnx" / "model.onnx")).run(
        ["sentence_embedding", "last_hidden_state"], {"input_ids": ids, "attention_mask": mask}
    )
    np.testing.assert_allclose(vectors, wanted, atol=1e-6)
    pooled = (hidden * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(pooled, wanted, atol=1e-6)


def test_it_is_an_option_of_the_command(
    table: SentenceEncoder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxscript")
    source = ems_fast.export(table, tmp_path / "model", to="ems-fast")
    arguments = ["export", str(source), "--output", str(tmp_path / "out"), "--to"]
    assert main([*arguments, "onnx", "--with-onnx"]) == 2
    assert "with_onnx: got True with to='onnx'" in capsys.readouterr().err
    assert main([*arguments, "sentence-transformers", "--with-onnx"]) == 0
    assert (tmp_path / "out" / "onnx" / "model.onnx").is_file()


def test_what_cannot_be_is_named(
    table: SentenceEncoder, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"to": "sentence-transformers", "with_onnx": True}
    with pytest.raises(InputError, match="with_onnx: got True for a model with layers"):
        ems_fast.export(run, tmp_path / "out", **options)
    monkeypatch.setitem(__import__("sys").modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"with_onnx: needs the package onnxscript, .*\[export\]"):
        ems_fast.export(table, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())
