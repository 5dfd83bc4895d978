"""Language codes of a corpus: one spelling for each, found in file names and headers.

Script and region are kept: a corpus may hold ``zh_hans`` beside ``zh_hant``. Where a code is
guessed, the tables of `ems_fast.languages` say what one is; arguments take any code.
"""

from __future__ import annotations

import re

from ems_fast.errors import InputError
from ems_fast.text.languages import is_language

_CODE = re.compile(
    r"(?P<language>[A-Za-z]{2,3})"
    r"(?:[-_](?P<script>[A-Za-z]{4}))?"
    r"(?:[-_](?P<region>[A-Za-z]{2}|[0-9]{3}))?"
    r"(?:\.[A-Za-z0-9-]+)?"  # the encoding of a POSIX locale: says nothing about the text
    r"(?:@(?P<modifier>[A-Za-z]+))?"
)
_PAIR = re.compile(
    r"([a-z]{2,3}(?:_[A-Za-z]{4})?(?:[-_][A-Z]{2})?)-([a-z]{2,3}(?:_[A-Za-z]{4})?(?:[-_][A-Z]{2})?)"
)
_SCRIPT_OF_MODIFIER = {"latin": "latn", "cyrillic": "cyrl", "arabic": "arab", "devanagari": "deva"}

ENGLISH = frozenset(["en", "eng"])


def spell_code(code: str, argument: str = "language") -> str:
    """One spelling of a code: ``DE`` → ``de``, ``pt_BR`` → ``pt-br``, ``zh-Hans`` → ``zh_hans``.

    Raises:
        InputError: `code` is not two or three letters with an optional script and region.
    """
    match = _CODE.fullmatch(code.strip())
    if match is None:
        raise InputError(
            f"{argument}: {code!r} is not a language code; expected one such as 'de', 'pt-BR' or "
            f"'zh_Hans'"
        )
    script = match["script"] or _SCRIPT_OF_MODIFIER.get((match["modifier"] or "").lower())
    parts = match["language"]
    if script:
        parts += "_" + script
    if match["region"]:
        parts += "-" + match["region"]
    return parts.lower()


def primary(code: str) -> str:
    """The language without script and region: ``pt-br`` → ``pt``."""
    return re.split("[-_]", code, maxsplit=1)[0]


def is_known(code: str) -> bool:
    """Whether `code` may be taken for a language without being told so."""
    match = _CODE.fullmatch(code)
    return match is not None and is_language(match["language"].lower())


def parse_pair(text: str) -> tuple[str, str] | None:
    """``de-fr`` → ``("de", "fr")``; None where `text` has another shape."""
    match = _PAIR.fullmatch(text.strip())
    if match is None:
        return None
    return spell_code(match[1]), spell_code(match[2])


def pair_from_file_name(name: str) -> tuple[str, str] | None:
    """The languages of ``en-de.tsv``, ``corpus.en-de.tsv.gz`` or ``wiki_en-de.tsv``, if known."""
    parts = name.split(".")
    pieces = [piece for part in parts for piece in part.split("_")]
    for candidate in [*reversed(parts), *pieces]:
        pair = parse_pair(candidate)
        if pair and is_language(primary(pair[0])) and is_language(primary(pair[1])):
            return pair
    return None


def canonical_order(a: str, b: str) -> tuple[str, str]:
    """English first, else by code: both directions of a language pair share one shard."""
    return (a, b) if (primary(a) not in ENGLISH, a) < (primary(b) not in ENGLISH, b) else (b, a)


def check_pair(source: str, target: str, where: str) -> tuple[str, str]:
    """Both codes in one spelling, and different.

    Raises:
        InputError: a code is none, or both are the same.
    """
    source = spell_code(source, f"{where}: source language")
    target = spell_code(target, f"{where}: target language")
    if source == target:
        raise InputError(f"{where}: both sides are in {source!r}; a pair needs two languages")
    return source, target
