from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.synthetic import pairs

import ems_fast
from ems_fast import EncodingWarning, InputError, SentenceEncoder
from ems_fast.encoding import encoder as encoding
from ems_fast.encoding.encoder import Dtype
from ems_fast.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def encoder(run: Path) -> SentenceEncoder:
    return ems_fast.load(run, device="cpu")


SENTENCES = st.text(st.sampled_from("badegiklo mnoprstuvß你好ДАغ😀"), min_size=0, max_size=60)


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(SENTENCES, max_size=12), st.integers(1, 200))
def test_a_vector_depends_on_its_sentence_alone(
    encoder: SentenceEncoder, sentences: list[str], batch_tokens: int
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EncodingWarning)
        together = encoder.encode(sentences, batch_tokens=batch_tokens)
        assert together.shape == (len(sentences), encoder.dimension)
        assert together.dtype == np.float32
        for sentence, vector in zip(sentences, together, strict=True):
            np.testing.assert_allclose(encoder.encode([sentence])[0], vector, rtol=0, atol=1e-6)


def test_order_is_kept(encoder: SentenceEncoder) -> None:
    sentences = ["bade", "gi ko lu ma", "de", "bade gi"]
    vectors = encoder.encode(sentences)
    np.testing.assert_allclose(encoder.encode(sentences[::-1])[::-1], vectors, atol=1e-6)


def test_normalised_vectors_have_length_one(encoder: SentenceEncoder) -> None:
    vectors = encoder.encode(["bade", "gi ko"], normalize=True)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("normalize", [False, True])
def test_empty_sentences_are_zero_and_reported(encoder: SentenceEncoder, normalize: bool) -> None:
    with pytest.warns(EncodingWarning, match=r"of 3 sentences, 2 without a token"):
        vectors = encoder.encode(["", "bade", " \t"], normalize=normalize)
    assert not vectors[[0, 2]].any()
    assert vectors[1].any()


def test_long_sentences_are_cut_and_reported(encoder: SentenceEncoder) -> None:
    long = "bade gi " * 500
    with pytest.warns(EncodingWarning, match=r"of 2 sentences, 1 longer than 120 tokens"):
        vectors = encoder.encode([long, "bade"])
    cut = encoder.tokenizer.decode(encoder.tokenizer.encode(long)[:120])
    assert len(encoder.tokenizer.encode(cut)) == 120
    np.testing.assert_allclose(encoder.encode([cut])[0], vectors[0], atol=1e-6)


def test_a_sentence_of_100_000_characters(encoder: SentenceEncoder) -> None:
    with pytest.warns(EncodingWarning, match="1 longer"):
        assert np.isfinite(encoder.encode(["x" * 100_000])).all()


def test_no_sentences(encoder: SentenceEncoder) -> None:
    assert encoder.encode([]).shape == (0, encoder.dimension)


def test_case_and_width_do_not_matter(encoder: SentenceEncoder) -> None:
    a, b, c = encoder.encode(["bade gi", "BADE Gi", "ｂａｄｅ ｇｉ"])
    np.testing.assert_allclose(a, b, atol=1e-6)
    np.testing.assert_allclose(a, c, atol=1e-6)


def test_encoding_does_not_change_its_input(encoder: SentenceEncoder) -> None:
    sentences = ["gi ko lu ma", "de"]
    encoder.encode(sentences)
    assert sentences == ["gi ko lu ma", "de"]


@pytest.mark.parametrize(
    ("sentences", "message"),
    [
        ("one string", "sentences: got one string, expected a list"),
        (["a", None], "sentences: item 1 is of type NoneType, expected a string"),
        ([b"bytes"], "sentences: item 0 is of type bytes"),
        (["a", "b", 3], "sentences: item 2 is of type int"),
        (b"bytes", "sentences: got an object of type bytes, expected a list of strings"),
        (None, "sentences: got an object of type NoneType"),
        ({"a": "b"}, "sentences: got an object of type dict"),
        (iter(["a"]), "sentences: got an object of type list_iterator"),
        (["a", "half \ud83d"], "sentences: item 1: holds half of a surrogate pair"),
    ],
)
def test_not_sentences(encoder: SentenceEncoder, sentences: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder.encode(sentences)  # type: ignore[arg-type]


def test_overlong_sentences_can_be_an_error(encoder: SentenceEncoder) -> None:
    with pytest.raises(InputError, match=r"sentences: item 1: has \d+ tokens, but the model reads"):
        encoder.encode(["bade", "bade gi " * 500], on_overlong="error")


def test_sequences_that_are_no_lists(encoder: SentenceEncoder) -> None:
    sentences = ["bade gi", "de", "gi"]
    expected = encoder.encode(sentences)
    assert np.array_equal(encoder.encode(tuple(sentences)), expected)
    assert np.array_equal(encoder.encode(np.array(sentences)), expected)  # type: ignore[arg-type]


def test_many_chunks(encoder: SentenceEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    sentences = [word for pair in pairs("de", 20) for word in pair]
    expected = encoder.encode(sentences)
    monkeypatch.setattr(encoding, "CHUNK_SENTENCES", 7)
    np.testing.assert_allclose(encoder.encode(sentences), expected, rtol=0, atol=1e-6)


def test_bfloat16_is_close(run: Path, encoder: SentenceEncoder) -> None:
    sentences = [sentence for pair in pairs("de", 20) for sentence in pair]
    rounded = ems_fast.load(run, device="cpu", dtype="bfloat16")
    assert rounded.dtype == torch.bfloat16
    a = encoder.encode(sentences, normalize=True)
    b = rounded.encode(sentences, normalize=True)
    assert b.dtype == np.float32
    assert (a * b).sum(axis=1).min() > 0.999


@pytest.mark.parametrize(
    ("dtype", "message"),
    [("int3", "dtype: got 'int3', expected one of"), ("float16", "'float16' is for GPUs")],
)
def test_bad_dtype(run: Path, dtype: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ems_fast.load(run, device="cpu", dtype=dtype)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_pickling(run: Path, dtype: Dtype) -> None:
    encoder = ems_fast.load(run, device="cpu", dtype=dtype)
    copy = pickle.loads(pickle.dumps(encoder))
    assert np.array_equal(copy.encode(["bade gi"]), encoder.encode(["bade gi"]))
    assert copy.fingerprint() == encoder.fingerprint()
    assert copy.languages == encoder.languages


def test_the_fingerprint_tells_models_apart(run: Path, encoder: SentenceEncoder) -> None:
    other = ems_fast.load(run, device="cpu")
    assert other.fingerprint() == encoder.fingerprint()
    with torch.no_grad():
        other.module.norm.weight[0] += 1
    assert other.fingerprint() != encoder.fingerprint()


def test_bad_options(encoder: SentenceEncoder) -> None:
    with pytest.raises(InputError, match="language: got 'de', but this encoder reads every"):
        encoder.encode(["a"], language="de")
    with pytest.raises(InputError, match="on_overlong: got 'drop'"):
        encoder.encode(["a"], on_overlong="drop")  # type: ignore[arg-type]


def test_bad_batch_tokens(encoder: SentenceEncoder) -> None:
    with pytest.raises(InputError, match="batch_tokens: got 0"):
        encoder.encode(["a"], batch_tokens=0)


# -- loading -------------------------------------------------------------------------------------


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds no model \(there is no config\.toml\)"):
        ems_fast.load(tmp_path)


def copy_run(run: Path, to: Path) -> Path:
    to.mkdir()
    for name in ("config.toml", "tokenizer.model", "model.safetensors"):
        (to / name).write_bytes((run / name).read_bytes())
    return to


def test_a_run_can_be_moved(run: Path, encoder: SentenceEncoder, tmp_path: Path) -> None:
    moved = ems_fast.load(copy_run(run, tmp_path / "moved"), device="cpu")
    assert np.array_equal(moved.encode(["bade gi"]), encoder.encode(["bade gi"]))
    assert moved.languages == encoder.languages


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("config.toml", r"config\.toml: cannot be read"),
        ("tokenizer.model", r"tokenizer\.model: not a SentencePiece model"),
        ("model.safetensors", r"model\.safetensors: cannot be read"),
    ],
)
def test_a_damaged_file(run: Path, tmp_path: Path, name: str, message: str) -> None:
    copy = copy_run(run, tmp_path / "copy")
    (copy / name).write_bytes((copy / name).read_bytes()[:100] + b"\xff = [")
    with pytest.raises(InputError, match=message):
        ems_fast.load(copy)


def test_a_config_of_another_model(run: Path, tmp_path: Path) -> None:
    copy = copy_run(run, tmp_path / "copy")
    text = (copy / "config.toml").read_text()
    (copy / "config.toml").write_text(text.replace("width = 32", "width = 64", 1))
    with pytest.raises(InputError, match=r"model\.safetensors: does not fit config\.toml"):
        ems_fast.load(copy)


def test_a_tokenizer_of_another_model(run: Path, shared: Path, tmp_path: Path) -> None:
    copy = copy_run(run, tmp_path / "copy")
    other = Tokenizer.from_file(shared / "fixtures" / "62languages_bpe_60000.model")
    (copy / "tokenizer.model").write_bytes(other.model)
    with pytest.raises(InputError, match=r"has 60000 pieces, but the model was made for"):
        ems_fast.load(copy)
