"""The ids of our own kernel are those of SentencePiece."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tokenizers import SENTENCES, sentencepiece_model

import ems_fast
from ems_fast import InputError
from ems_fast.text.appending import append_pieces
from ems_fast.text.sentencepiece_model import NORMAL, Piece, SentencePieceModel
from ems_fast.text.tokenizer import Tokenizer

pytestmark = pytest.mark.skipif(
    tuple(map(int, sentencepiece.__version__.split(".")[:3])) < (0, 2, 3),
    reason="needs sentencepiece 0.2.3, whose roundings ours are",
)

UNIGRAM = {
    "model_type": "unigram", "vocab_size": 600, "normalization_rule_name": "nmt_nfkc_cf",
    "hard_vocab_limit": False,  # as many as there are
}  # fmt: skip
MODELS = {
    "ours": UNIGRAM,
    "case": {**UNIGRAM, "normalization_rule_name": "nmt_nfkc"},
    "no rules": {**UNIGRAM, "normalization_rule_name": "identity"},
    "no rules, no bytes": {
        **UNIGRAM, "normalization_rule_name": "identity", "byte_fallback": False,
    },
    "no bytes": {**UNIGRAM, "byte_fallback": False},
    "no prefix": {**UNIGRAM, "add_dummy_prefix": False},
    "spaces kept": {**UNIGRAM, "remove_extra_whitespaces": False},
    "spaces kept, no prefix": {
        **UNIGRAM, "remove_extra_whitespaces": False, "add_dummy_prefix": False,
    },
    "spaces behind": {**UNIGRAM, "treat_whitespace_as_suffix": True},
    "pieces of several words": {**UNIGRAM, "split_by_whitespace": False},
    "symbols": {
        **UNIGRAM, "user_defined_symbols": ["<x>", "<xy>", "Ö", "▁T", "日"],
    },
    "controls": {**UNIGRAM, "control_symbols": ["<s>", "<lang>"]},
}  # fmt: skip
SYMBOLS = ["<x>", "<xy>z", "▁T and T", "xÖx Öö ö", "日本語 <x><x>", "TTT"]


@cache
def library(tokenizer: Tokenizer) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)


def assert_same(tokenizer: Tokenizer, texts: list[str]) -> None:
    assert tokenizer.implementation == "ems-fast"
    expected = library(tokenizer).encode(texts)
    ids, offsets = tokenizer.encode_packed(texts)
    for i, text in enumerate(texts):
        assert ids[offsets[i] : offsets[i + 1]].tolist() == expected[i], text[:80]


@pytest.fixture(scope="module", params=MODELS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return sentencepiece_model(**MODELS[request.param])


@pytest.fixture(scope="module")
def shipped() -> Tokenizer:
    """That of the shipped model: 64,000 pieces."""
    return ems_fast.load().tokenizer


@pytest.fixture(scope="module")
def largest(shipped: Tokenizer) -> Tokenizer:
    """The shipped one with 32,000 further pieces, whose scores tie with one another."""
    known = {piece.text for piece in SentencePieceModel.parse(shipped.model).pieces}
    draw = random.Random(0)
    letters = "▁abcdefghijklmnopqrstuvwxyzäöüабвгдежαβγδ日本語文字가나다"
    made = {"".join(draw.choices(letters[1:], k=draw.randint(2, 6))) for _ in range(33_000)}
    pieces = [Piece(text, -9.0, NORMAL) for text in sorted(made - known)[:32_000]]
    return append_pieces(shipped, pieces)


# What breaks tokenizers: names of pieces, spaces and marks in odd places, nothing at all.
HOSTILE = [
    *SENTENCES, *SYMBOLS, "\0", "a\0b \0", "<pad>", "<unk>", "<s> </s>", "▁", "▁▁x▁", " ▁ ", "\n",
    "\x01", "a\x01", "\ufffd", "ﷺ ﷻ", "\u0345", "ᾳ\u0345", "I\u0307", "ẞ ß SS ﬀ",
    "\u1100\u1161\u11a8", "\u200bx\u200b", "x\u3000\u3000y\u3000", "\U0010ffff\U0001f600", "\uffff",
    "e" + "\u0301" * 50, "\u00ad\u00adx\u00ad", "0123456789" * 30, "x" * 3000, "日本" * 1000,
    " " * 500, "a " * 1000,
]  # fmt: skip


def test_hostile_text(tokenizer: Tokenizer) -> None:
    assert_same(tokenizer, HOSTILE)
    assert_same(tokenizer, [a + b for a in HOSTILE for b in ("\u0301x", "▁", " A")])


@pytest.mark.parametrize("name", ["shipped", "largest"])
def test_hostile_text_and_a_large_vocabulary(
    name: str, request: pytest.FixtureRequest, shipped: Tokenizer
) -> None:
    assert_same(request.getfixturevalue(name), HOSTILE)


ALPHABET = (
    "aeEITßςΣÅÖЁカｶ가ᄀكאक日A① \t▁<x>y0\0"
    + "\u0301\u0307\u3099\u309a\uff9e\u0651\u093c\u200d\u200b"
)
TEXTS = st.lists(st.text(st.sampled_from(ALPHABET), max_size=24) | st.text(max_size=24), max_size=8)


@settings(max_examples=60)
@given(TEXTS)
def test_any_text(tokenizer: Tokenizer, texts: list[str]) -> None:
    assert_same(tokenizer, texts)


@settings(max_examples=60)
@given(TEXTS)
def test_any_text_and_many_ties(largest: Tokenizer, texts: list[str]) -> None:
    assert_same(largest, texts)


def test_a_line_of_a_megabyte(shipped: Tokenizer) -> None:
    draw = random.Random(0)
    words = " ".join(SENTENCES).split()
    assert_same(shipped, [" ".join(draw.choices(words, k=110_000)), "日本語を" * 90_000])


def corpus_lines(corpora: Path, most: int) -> list[str]:
    """Some lines of every language of FLORES, two thirds in capitals or in parts."""
    lines = []
    for path in sorted((corpora / "eval" / "flores200_devtest").glob("*.devtest")):
        lines += path.read_text(encoding="utf-8").splitlines()[:most]
    return lines


def test_real_text_in_62_languages(corpora: Path, tokenizer: Tokenizer, shipped: Tokenizer) -> None:
    lines = corpus_lines(corpora, 10)
    assert_same(tokenizer, [*lines, *(line.upper() for line in lines)])
    assert_same(shipped, [*lines, *(line.upper() for line in lines)])


def test_it_needs_no_library() -> None:
    code = """
import sys
sys.modules["sentencepiece"] = None
import ems_fast
assert ems_fast.load().encode(["Guten Morgen!"]).any()
"""
    subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, check=True)


def test_threads_give_the_same(shipped: Tokenizer) -> None:
    texts = [f"{i} {text}" for i in range(12) for text in HOSTILE]
    expected = shipped.encode_packed(texts, num_threads=1)
    for threads in (2, 3, 7):
        found = shipped.encode_packed(texts, num_threads=threads)
        assert all(np.array_equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.parametrize("kind", ["empty", "many empty"])
def test_nothing_to_encode(shipped: Tokenizer, kind: str) -> None:
    texts = [] if kind == "empty" else [""] * 1000
    ids, offsets = shipped.encode_packed(texts, num_threads=2)
    assert ids.tolist() == []
    assert offsets.tolist() == [0] * (len(texts) + 1)


# -- what is no text, what is no model -----------------------------------------------------------


def test_half_of_a_surrogate_pair(shipped: Tokenizer) -> None:
    for text in ("\ud800", "x \udfff y", "日\udc80"):
        with pytest.raises(UnicodeEncodeError, match="surrogates not allowed"):
            shipped.encode_packed(["fine", *["also"] * 200, text, "fine"], num_threads=2)


def test_no_string(shipped: Tokenizer) -> None:
    with pytest.raises(TypeError, match="holds something that is no string"):
        shipped.encode_packed(["x", 5])  # type: ignore[list-item]


@pytest.mark.parametrize(
    "options",
    [
        {"model_type": "bpe", "vocab_size": 560},
        {"model_type": "char", "vocab_size": 420, "byte_fallback": False},
        {**UNIGRAM, "escape_whitespaces": False},
    ],
)
def test_other_models_keep_the_library(options: dict[str, object]) -> None:
    if "escape_whitespaces" in options:  # the trainer does not offer it
        model = sentencepiece_model(**UNIGRAM).model + b"\x1a\x02\x28\x00"
        tokenizer = Tokenizer(model)
    else:
        tokenizer = sentencepiece_model(**options)
    assert tokenizer.implementation == "SentencePiece"
    texts = [text for text in HOSTILE if text]
    ids, offsets = tokenizer.encode_packed(texts)
    expected = library(tokenizer).encode(texts)
    assert ids.tolist() == [token for row in expected for token in row]
    assert np.diff(offsets).tolist() == [len(row) for row in expected]


def varint(value: int) -> bytes:
    return bytes([value & 0x7F | 0x80, value >> 7]) if value >= 0x80 else bytes([value])


def piece(text: bytes, kind: int = 1, score: float = -1.0) -> bytes:
    body = b"\x0a" + varint(len(text)) + text + b"\x15" + struct.pack("<f", score)
    body += bytes([0x18, kind])
    return b"\x0a" + varint(len(body)) + body


PAD, UNK = piece(b"<pad>", 3), piece(b"<unk>", 2)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (b"", "has no pieces"),
        (PAD + UNK, "no pieces but special ones"),
        (PAD + UNK + piece(b"a") + piece(b"a"), "has a piece twice"),
        (PAD + PAD + UNK + piece(b"a"), "has a piece twice"),
        (PAD + UNK + UNK.replace(b"unk", b"unn") + piece(b"a"), "two unknown pieces"),
        (PAD + piece(b"a"), "has no unknown piece"),
        (PAD + UNK + piece(b""), "has an empty piece"),
        (PAD + UNK + piece(b"a", score=float("inf")), "a score that is no number"),
        (PAD + UNK + piece(b"a\0b"), "a piece with a null character"),
        (PAD + UNK + piece(b"\xc3"), "a piece that is no UTF-8"),
        (PAD + UNK + piece(b"a") + piece(b"<0x41>", 6), "a byte piece that is none"),
        (PAD + UNK + piece(b"a") + b"\x12\x03\x98\x02\x01", "lacks byte pieces"),
        (PAD + UNK + piece(b"a")[:-2], "ends within a field"),
        (PAD + UNK + piece(b"a") + b"\x0f", "a field of an unknown kind"),
        (PAD + UNK + piece(b"a") + b"\x02", "a field without a number"),
        (PAD + UNK + piece(b"a") + b"\x08" + b"\xff" * 11, "a number that does not end"),
        (PAD + UNK + piece(b"a") + b"\x1a\x06\x12\x04\xff\xff\xff\xff", "rules are cut off"),
        (
            PAD + UNK + piece(b"a") + b"\x1a\x0c\x12\x0a\x04\0\0\0\xff\xff\xff\x7f\0\0",
            "rules lead outside",
        ),
    ],
)  # fmt: skip
def test_malformed_models(model: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=rf"t: not a SentencePiece model \(.*{reason}.*\)"):
        Tokenizer(model, name="t")


def rules(units: dict[int, int], replacements: bytes) -> bytes:
    """A normaliser with a double array of these units."""
    array = struct.pack("<256I", *(units.get(i, 0x80000000) for i in range(256)))
    charsmap = struct.pack("<I", len(array)) + array + replacements
    body = b"\x12" + varint(len(charsmap)) + charsmap
    return b"\x1a" + varint(len(body)) + body


def unit(label: int, offset: int, *, ends: bool = False) -> int:
    return label | ends << 8 | offset << 10


SMALL = PAD + UNK + piece("▁".encode()) + piece(b"a") + piece("é".encode())
# From the root, whose base is 1, to what begins with an a, and from there with the same base again.
CIRCLE = {0: unit(0, 1), 1 ^ 0x61: unit(0x61, 0x61)}
BEYOND = {0: unit(0, 1), 1 ^ 0x61: unit(0x61, 0x61 ^ 0x8000)}
# A rule for an a (value at 0xE0), and one for the first byte of é.
LETTER = {0: unit(0, 1), 1 ^ 0x61: unit(0x61, 0x80, ends=True), 0xE0: 0x80000000}
HALF = {0: unit(0, 1), 1 ^ 0xC3: unit(0xC3, 2, ends=True), 0xC0: 0x80000000}


@pytest.mark.parametrize(
    ("normalizer", "reason"),
    [
        (rules(CIRCLE, b"x\0"), "lead in a circle"),
        (rules(BEYOND, b"x\0"), "lead outside of them"),
        (rules({**LETTER, 0xE0: 0x80000005}, b"x\0"), "lead outside of them"),
        (rules(LETTER, b"x"), "rules do not end"),
        (rules(LETTER, b"\xff\0"), "make no UTF-8"),
        (rules({**LETTER, 0xE0: 0x80000001}, "é".encode() + b"\0"), "make no UTF-8"),
        (rules(HALF, b"x\0"), "do not replace whole characters"),
    ],
)
def test_malformed_rules(normalizer: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=rf"not a SentencePiece model \(.*{reason}\)"):
        Tokenizer(SMALL + normalizer)


def test_rules_of_ones_own() -> None:
    for becomes in ("é", "", "  é ", "▁"):
        tokenizer = Tokenizer(SMALL + rules(LETTER, becomes.encode() + b"\0"))
        assert_same(tokenizer, ["a", "aa a", "ba", "aé a\u0301", "a ", " a"])


@pytest.mark.parametrize(
    "rest",
    [
        piece(b"b", 5),
        piece(b"b c", 4),
    ],
)
def test_what_is_not_covered_is_left_to_the_library(rest: bytes) -> None:
    tokenizer = Tokenizer(SMALL + rest)
    assert tokenizer.implementation == "SentencePiece"
    texts = ["a", "ab c", "é"]
    assert [tokenizer.encode(text) for text in texts] == library(tokenizer).encode(texts)


def flipped(model: bytes, draw: random.Random) -> bytes:
    damaged = bytearray(model)
    for _ in range(draw.choice((1, 1, 2, 8))):
        damaged[draw.randrange(len(damaged))] ^= 1 << draw.randrange(8)
    return bytes(damaged)


def cut(model: bytes, draw: random.Random) -> bytes:
    return model[: draw.randrange(len(model))]


@pytest.mark.parametrize("damage", [flipped, cut])
def test_damaged_models_fail_clearly_or_work(
    damage: Callable[[bytes, random.Random], bytes],
) -> None:
    """Never a crash, whatever the rules of normalisation or the fields have become."""
    models = [sentencepiece_model(**MODELS[name]).model for name in ("no rules", "symbols")]
    models.append(SMALL + rules(LETTER, b"e\0"))
    draw = random.Random(0)
    failed = 0
    for _ in range(400):
        try:
            tokenizer = Tokenizer(damage(draw.choice(models), draw))
        except InputError:
            failed += 1
            continue
        if tokenizer.implementation == "ems-fast":
            tokenizer.encode_packed(HOSTILE)
    assert failed > 0
