from __future__ import annotations

import json
import unicodedata
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.synthetic import TINY
from support.tokenizers import BPE, MODELS, SENTENCES, UNIGRAM, sentencepiece_model

import ems_fast
from ems_fast import InputError, ModelConfig, SentenceEncoder
from ems_fast.cli.parser import main
from ems_fast.exporting.fast_tokenizer import fast_tokenizer
from ems_fast.exporting.onnx import PaddedEncoder
from ems_fast.model.encoder import Encoder
from ems_fast.text.appending import append_pieces
from ems_fast.text.sentencepiece_model import NORMAL, Piece
from ems_fast.text.tokenizer import Tokenizer


@pytest.fixture(scope="module", params=MODELS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return sentencepiece_model(**MODELS[request.param])


def fast(tokenizer: Tokenizer, **options: Any) -> Any:
    tokenizers = pytest.importorskip("tokenizers")
    return tokenizers.Tokenizer.from_str(json.dumps(fast_tokenizer(tokenizer, **options)))


# -- the tokenizer -------------------------------------------------------------------------------


def test_the_fast_tokenizer_gives_the_same_ids(tokenizer: Tokenizer) -> None:
    tokens = fast(tokenizer)
    for sentence in SENTENCES:
        assert tokens.encode(sentence).ids == tokenizer.encode(sentence), sentence


NAMES = [
    "<pad>",
    "x<pad><unk>",
    "<unk> <pad> <PAD>",
    "<0x41><0xFF>",
    "<0x4",
    "<pad",
    "pad>",
    "<<pad>>",
]


def test_names_of_special_pieces_are_text(tokenizer: Tokenizer) -> None:
    tokens = fast(tokenizer)
    for name in NAMES:
        assert tokens.encode(name).ids == tokenizer.encode(name), name


def test_a_name_whose_characters_are_together_in_pieces_is_cut_elsewhere() -> None:
    model = append_pieces(
        sentencepiece_model(**UNIGRAM),
        [Piece(text, -5.0, NORMAL) for text in ("<p", "pa", "<0", "0x", "d>x")],
    )
    tokens = fast(model)
    for name in [*NAMES, "<p<0 pa0x"]:
        assert tokens.encode(name).ids == model.encode(name), name


class Both:
    """A tokenizer and its fast twin."""

    def __init__(self) -> None:
        self.ours = sentencepiece_model(**BPE)
        self.fast = fast(self.ours)

    def assert_same(self, text: str) -> None:
        assert self.fast.encode(text).ids == self.ours.encode(text)


@pytest.fixture(scope="module")
def both() -> Both:
    return Both()


# Letters whose rules differ with what follows, and all that may follow them.
ALPHABET = "aeEiIQßςΣÅеЁあカｶ가ᄀ학كلאक가Ａ① \t▁<0>" + (
    "\u0301\u0302\u0323\u0308\u0307\u031b\u3099\u309a\uff9e\u064e\u0651\u05bc\u05b8\u093c\u200d\u200b\ufe0f"
)


@settings(max_examples=300)
@given(st.text(st.sampled_from(ALPHABET), max_size=24))
def test_the_same_ids_for_any_sequence_of_marks(both: Both, text: str) -> None:
    both.assert_same(text)


# Left out is what the docstring of fast_tokenizer states, and the separator.
ANY = st.characters(codec="utf-8", exclude_characters="\ufdd0\u0344\u0345ΪΫ")


@settings(max_examples=200)
@given(st.text(ANY, max_size=24))
def test_the_same_ids_for_any_text(both: Both, text: str) -> None:
    both.assert_same(text)


def test_long_text_is_cut_at_the_same_token(both: Both) -> None:
    long = "good morning " * 100
    assert fast(both.ours, max_tokens=7).encode(long).ids == both.ours.encode(long)[:7]


def test_a_word_model_is_refused() -> None:
    word = sentencepiece_model(model_type="word", vocab_size=60, byte_fallback=False)
    with pytest.raises(InputError, match="tokenizer: is of type word, expected bpe or unigram"):
        fast_tokenizer(word)


def test_user_defined_symbols_are_refused() -> None:
    model = sentencepiece_model(**BPE, user_defined_symbols=["<x>"])
    with pytest.raises(InputError, match="tokenizer: has user-defined symbols"):
        fast_tokenizer(model)


def corpus_sentences(corpora: Path, most: int) -> list[str]:
    """The first sentences of every language of FLORES, and those decomposed and in capitals."""
    sentences = []
    for path in sorted((corpora / "eval" / "flores200_devtest").iterdir()):
        lines = path.read_text(encoding="utf-8").splitlines()[:most]
        # sentence-transformers fails on a batch of nothing but empty sentences.
        sentences += [line for line in lines if line.strip()]
    decomposed = [unicodedata.normalize("NFD", s) for s in sentences[::5]]
    # Capitals of ΐ and ΰ have no single character; the docstring of fast_tokenizer has the case.
    capitals = [s.upper() for s in sentences[::5] if not set("ΐΰ") & set(s.lower())]
    return sentences + decomposed + capitals


@pytest.mark.parametrize("most", [20, pytest.param(1012, marks=pytest.mark.slow)])
def test_the_same_ids_for_real_text_in_62_languages(corpora: Path, most: int) -> None:
    tokenizer = Tokenizer.from_file(corpora.parent / "fixtures" / "62languages_bpe_60000.model")
    sentences = corpus_sentences(corpora, most)
    encoded = fast(tokenizer).encode_batch(sentences)
    for sentence, tokens in zip(sentences, encoded, strict=True):
        assert tokens.ids == tokenizer.encode(sentence), sentence


# -- whole models --------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["layers", "table", "phrases"])
def encoder(request: pytest.FixtureRequest) -> SentenceEncoder:
    """A random encoder that knows all scripts, with weights large enough to tell them apart."""
    torch.manual_seed(0)
    tokenizer = sentencepiece_model(**BPE)
    layers = 2 if request.param == "layers" else 0
    sizes = {**TINY, "layers": layers, "max_tokens": 40, "vocab_size": tokenizer.vocab_size}
    ids = [tokenizer.encode(sentence) for sentence in SENTENCES[::2]]
    keys = sorted({a * tokenizer.vocab_size + b for row in ids for a, b in pairwise(row)})
    phrases = len(keys) if request.param == "phrases" else 0
    config = ModelConfig(languages=("en", "de"), **sizes, phrases=phrases)
    module = Encoder(config)
    if module.phrases is not None:
        module.phrases.copy_(torch.tensor(keys))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return SentenceEncoder(module, tokenizer, config, torch.device("cpu"))


def ours_encode(encoder: SentenceEncoder, sentences: list[str]) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ems_fast.EncodingWarning)
        return encoder.encode(sentences)


@pytest.fixture(scope="module")
def exported(encoder: SentenceEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "st"
    return ems_fast.export(encoder, folder, to="sentence-transformers", licence="cc-by-4.0")


TEXT = [*SENTENCES, "much too long " * 40]


def load_exported(library: Any, encoder: SentenceEncoder, folder: Path) -> Any:
    ours = encoder.config.phrases > 0  # a class of ours, which is loaded if one says so
    return library.SentenceTransformer(str(folder), device="cpu", trust_remote_code=ours)


@pytest.mark.filterwarnings("default")  # those of the other library
def test_sentence_transformers_gives_the_same_vectors(
    encoder: SentenceEncoder, exported: Path
) -> None:
    library = pytest.importorskip("sentence_transformers")
    model = load_exported(library, encoder, exported)
    if encoder.config.phrases:
        assert type(model[0]).__name__ == "TokenTableModule"
    elif encoder.config.is_table:  # the tokenizer cuts, and the module knows of no limit
        assert type(model[0]).__name__ == "StaticEmbedding"
    else:
        assert model.max_seq_length == encoder.config.max_tokens
    vectors = model.encode(TEXT, batch_size=64)
    np.testing.assert_allclose(vectors, ours_encode(encoder, TEXT), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("encoder", ["phrases"], indirect=True)
def test_a_table_with_phrases_can_be_small_and_saved_again(
    encoder: SentenceEncoder, tmp_path: Path
) -> None:
    library = pytest.importorskip("sentence_transformers")
    folder = ems_fast.export(encoder, tmp_path / "st", to="sentence-transformers", bits=4)
    load_exported(library, encoder, folder).save_pretrained(str(tmp_path / "again"))
    vectors = load_exported(library, encoder, tmp_path / "again").encode(["a", "b c"], prompt="d ")
    ours = ems_fast.load(folder)
    np.testing.assert_array_equal(vectors, ours.encode(["d a", "d b c"]))
    np.testing.assert_array_equal(
        ems_fast.load(tmp_path / "again").encode(["a"]), ours.encode(["a"])
    )
    with pytest.raises(ValueError, match="trust_remote_code"):
        library.SentenceTransformer(str(folder), device="cpu")


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("encoder", ["layers"], indirect=True)
def test_transformers_finds_every_weight(exported: Path, encoder: SentenceEncoder) -> None:
    transformers = pytest.importorskip("transformers")
    model, found = transformers.BertModel.from_pretrained(exported, output_loading_info=True)
    assert not any(found[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported)
    assert tokenizer("<pad> <unk>")["input_ids"] == encoder.tokenizer.encode("<pad> <unk>")
    assert model.config.max_position_embeddings == encoder.config.max_tokens


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
def test_sentence_transformers_on_thousands_of_sentences(
    encoder: SentenceEncoder, exported: Path, corpora: Path
) -> None:
    library = pytest.importorskip("sentence_transformers")
    sentences = corpus_sentences(corpora, 100)
    vectors = load_exported(library, encoder, exported).encode(sentences)
    np.testing.assert_allclose(vectors, ours_encode(encoder, sentences), rtol=0, atol=1e-5)


def test_the_padded_encoder_gives_the_same_vectors(encoder: SentenceEncoder) -> None:
    module = PaddedEncoder(encoder.module).eval()
    ids = [encoder.tokenizer.encode(text)[: encoder.config.max_tokens] for text in TEXT]
    padded = torch.nn.utils.rnn.pad_sequence(
        [torch.tensor(i, dtype=torch.int64) for i in ids], True
    )
    lengths = torch.tensor([len(i) for i in ids])
    mask = (torch.arange(padded.shape[1]) < lengths[:, None]).long()
    with torch.inference_mode():
        vectors, hidden = module(padded, mask)
    np.testing.assert_allclose(vectors.numpy(), ours_encode(encoder, TEXT), rtol=0, atol=1e-5)
    pooled = (hidden * mask[:, :, None]).sum(dim=1) / lengths.clamp(min=1)[:, None]
    np.testing.assert_allclose(pooled.numpy(), vectors.numpy(), rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("bits", [32, 8])
def test_onnx_gives_the_same_vectors(encoder: SentenceEncoder, tmp_path: Path, bits: int) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    folder = ems_fast.export(encoder, tmp_path / "onnx", to="onnx", bits=bits)
    names = {"README.md", "model.onnx", "tokenizer.json", "tokenizer.model"}
    assert {path.name for path in folder.iterdir()} == names
    tokens = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokens.enable_padding(pad_id=0)
    session = runtime.InferenceSession(str(folder / "model.onnx"))
    for sentences in (TEXT, TEXT[:1], ["a"]):
        batch = tokens.encode_batch(sentences)
        (vectors,) = session.run(
            ["sentence_embedding"],
            {
                "input_ids": np.array([s.ids for s in batch]),
                "attention_mask": np.array([s.attention_mask for s in batch]),
            },
        )
        expected = ours_encode(encoder, sentences)
        if bits == 8:
            lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
            cosines = (vectors * expected).sum(axis=1)[lengths > 0] / lengths[lengths > 0]
            assert cosines.min() > 0.95
        else:
            np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-4)


def test_ems_fast_gives_the_same_vectors(encoder: SentenceEncoder, tmp_path: Path) -> None:
    loaded = ems_fast.load(
        ems_fast.export(encoder, tmp_path / "saved", to="ems-fast"), device="cpu"
    )
    assert loaded.languages == encoder.languages
    assert np.array_equal(ours_encode(loaded, TEXT), ours_encode(encoder, TEXT))


def test_a_shipped_model_is_exported_by_its_name(tmp_path: Path) -> None:
    ems_fast.export("multilingual", tmp_path / "small", to="ems-fast", bits=4)
    found = ems_fast.load(tmp_path / "small").encode(SENTENCES[:5])
    np.testing.assert_allclose(
        found, ems_fast.load("multilingual").encode(SENTENCES[:5]), atol=0.02
    )


@pytest.mark.parametrize("bits", [32, 8, 4])
def test_what_is_small_stays_as_it_is(phrases_run: Path, tmp_path: Path, bits: int) -> None:
    first = ems_fast.export(phrases_run, tmp_path / "first", to="ems-fast", bits=bits)
    again = ems_fast.export(first, tmp_path / "again", to="ems-fast", bits=bits)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (first, again)]
    assert weights[0] == weights[1]


def test_the_command(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    arguments = ["export", str(run), "--to", "sentence-transformers", "--output", str(output)]
    assert main([*arguments, "--licence", "mit"]) == 0
    assert f"The model is in {output}." in capsys.readouterr().out
    assert 'license: "mit"' in (output / "README.md").read_text()
    assert main(arguments) == 2
    assert "exists and is not empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"to": "tensorflow"}, "to: got 'tensorflow', expected one of 'sentence-transformers'"),
        ({"to": "sentence-transformers", "bits": 3}, "bits: got 3, expected one of"),
        ({"to": "onnx", "bits": 4}, "bits: got 4 with to='onnx', which is written in 32 or 8"),
        ({"to": "ems-fast", "bits": 3}, "bits: got 3"),
    ],
)
def test_bad_arguments(
    encoder: SentenceEncoder, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        ems_fast.export(encoder, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


def test_bits_of_what_others_read(encoder: SentenceEncoder, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    with_onnx = encoder.config.phrases > 0
    bits = 4 if with_onnx else 8
    with pytest.raises(InputError, match=f"bits: got {bits} with .* which is written in 32"):
        ems_fast.export(
            encoder, tmp_path / "out", to="sentence-transformers", bits=bits, with_onnx=with_onnx
        )
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_named_and_leaves_nothing(
    encoder: SentenceEncoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(InputError, match=r"needs the package onnx, .* 'ems-fast\[export\]'"):
        ems_fast.export(encoder, tmp_path / "out", to="onnx")
    assert not list(tmp_path.iterdir())
