from __future__ import annotations

from pathlib import Path

import pytest

from ems_fast.errors import InputError
from ems_fast.text.tokenizer import PAD_ID, UNK_ID, Tokenizer


@pytest.fixture
def tokenizer(run: Path) -> Tokenizer:
    return Tokenizer.from_file(run / "tokenizer.model")


def test_packed_equals_one_by_one(tokenizer: Tokenizer) -> None:
    sentences = ["bade gi", "", "Ｌｕ MA", "😀 unseen 你好"]
    ids, offsets = tokenizer.encode_packed(sentences, num_threads=2)
    for i, sentence in enumerate(sentences):
        assert ids[offsets[i] : offsets[i + 1]].tolist() == tokenizer.encode(sentence)


def test_nothing_is_unknown(tokenizer: Tokenizer) -> None:
    """Byte fallback: every character has ids, and none of them is the unknown one."""
    ids = tokenizer.encode("😀 𓂀 你好")
    assert ids
    assert UNK_ID not in ids
    assert PAD_ID not in ids


def test_normalisation_is_in_the_model(tokenizer: Tokenizer) -> None:
    assert tokenizer.encode("BaDe") == tokenizer.encode("ｂａｄｅ") == tokenizer.encode("bade")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the tokenizer"):
        Tokenizer.from_file(tmp_path / "none.model")


def test_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "bad.model").write_bytes(b"not a model")
    with pytest.raises(InputError, match=r"bad\.model: not a SentencePiece model"):
        Tokenizer.from_file(tmp_path / "bad.model")
