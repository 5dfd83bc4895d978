from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ems_fast.corpus.cleaning import effective_length, reason_to_drop, tidy
from ems_fast.corpus.hashing import sentence_hash, text_key


def judge(source: str, target: str) -> str | None:
    source, target = tidy(source), tidy(target)
    return reason_to_drop(source, target, text_key(source), text_key(target))


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("Hello", "Hallo", None),
        ("", "Hallo", "empty"),
        ("Hello", " \t\u3000", "empty"),
        ("", "", "empty"),
        ("Hello", "Hello", "identical"),
        ("Ｈello  World", "hello world", "identical"),
        ("Hel\x07lo", "Hallo", "control_characters"),
        ("Hello", "Gr\ufffdn", "control_characters"),
        ("Hello", "Hallo\ud800", "control_characters"),
        ("Hello\x00", "hello\x00", "identical"),  # the first reason counts
        ("a\tb\r\nc", "x\x0by", None),
        ("می\u200cخواهم", "I want\u00ad to", None),  # joiners and soft hyphens belong to text
        ("x" * 100, "a short one", "length_ratio"),
        ("Yes", "Ja, das ist es.", None),
        ("x" * 2001, "y" * 2001, "too_many_characters"),
        ("x" * 100_000, "y", "length_ratio"),
        ("x" * 2000, "y" * 2000, None),
        # Chinese is three times as dense, which the ratio allows for.
        ("我" * 40, "x" * 200, None),
        ("x" * 40, "y" * 200, "length_ratio"),
        ("我" * 100, "x" * 80, "length_ratio"),
    ],
)
def test_reasons(source, target, reason):
    assert judge(source, target) == reason


def test_tidy():
    assert tidy("\ufeff a\t\tb\r\nc\u2028d \n") == "a b c d"
    assert tidy(" plain ") == "plain"


@pytest.mark.parametrize(
    ("text", "length"), [("abc", 3), ("дом", 3), ("我們", 6), ("かな", 3.6), ("한글", 4.4)]
)
def test_effective_length(text, length):
    assert effective_length(text) == pytest.approx(length)


def test_hash_is_stable():
    # These numbers are in every prepared corpus: they must never change.
    assert sentence_hash("Hello, world!") == sentence_hash(" hello,  WORLD！")
    assert sentence_hash("") == -5426141060434712860
    assert sentence_hash("Hello, world!") == 886995229299742019


@given(st.text(), st.text())
def test_every_pair_is_judged(source, target):
    reason = judge(source, target)
    assert reason == judge(target, source)
    if reason is None:
        assert "\n" not in tidy(source)
        assert tidy(tidy(source)) == tidy(source)
        assert sentence_hash(source) == sentence_hash(source.strip())
