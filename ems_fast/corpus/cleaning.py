"""Which pairs are of no use, judged pair by pair.

The reasons are tried in this order, and the first that holds is counted:

``empty``                a side has no text.
``identical``            both sides are the same text (NFKC, case folded, spaces collapsed).
``control_characters``   a side holds control characters, surrogates or U+FFFD: signs of a broken
                         conversion that no later step can mend. Tabs and line ends are mere
                         layout: they become spaces.
``length_ratio``         one side is over 3 times longer than the other. Lengths are in
                         characters + 10, so that short sentences pass, and a character of a
                         denser script counts as the Latin letters it stands for: Han 3,
                         kana 1.8, Hangul 2.2 (measured on English sentences and translations).
``too_many_characters``  a side has over 2,000 characters: far more than `max_tokens` lets in.

Duplicates and sentences of too many tokens are found later, by `prepare`.
"""

from __future__ import annotations

import re

MAX_CHARACTERS = 2000
MAX_LENGTH_RATIO = 3.0
_RATIO_SLACK = 10

_LAYOUT = re.compile(r"[\t\n\x0b\x0c\r\x85\u2028\u2029]+")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]")
# The characters of each dense script, and how many more Latin letters each stands for.
_DENSE_SCRIPTS = (
    (re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"), 2.0),  # Han
    (re.compile(r"[\u3040-\u30ff\u31f0-\u31ff]"), 0.8),  # kana
    (re.compile(r"[\u1100-\u11ff\uac00-\ud7a3]"), 1.2),  # Hangul
)
_DENSE = re.compile("|".join(script.pattern for script, _ in _DENSE_SCRIPTS))


def tidy(text: str) -> str:
    """`text` on one line: tabs and line ends become spaces, the ends are stripped."""
    if not text.isprintable():
        text = _LAYOUT.sub(" ", text).replace("\ufeff", "")
    return text.strip()


def effective_length(text: str) -> float:
    """Characters of `text`, those of dense scripts counted as the Latin letters they stand for."""
    length = float(len(text))
    if not text.isascii() and _DENSE.search(text):
        for script, more in _DENSE_SCRIPTS:
            length += more * len(script.findall(text))
    return length


def reason_to_drop(source: str, target: str, source_key: str, target_key: str) -> str | None:
    """Why a pair, both sides after `tidy`, is of no use, or None; the keys are their `text_key`."""
    if not source_key or not target_key:
        return "empty"
    if source_key == target_key:
        return "identical"
    for text in (source, target):
        if "\ufffd" in text or (not text.isprintable() and _CONTROL.search(text)):
            return "control_characters"
    a, b = effective_length(source) + _RATIO_SLACK, effective_length(target) + _RATIO_SLACK
    if a > MAX_LENGTH_RATIO * b or b > MAX_LENGTH_RATIO * a:
        return "length_ratio"
    if len(source) > MAX_CHARACTERS or len(target) > MAX_CHARACTERS:
        return "too_many_characters"
    return None
