"""Which messages are kept, and which text the evaluation needs for itself."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

from languages import in_script

from ems_fast.demo.corpus import is_sentence_pair

_SEPARATORS = re.compile(r"[\W_]+")
_MARKUP = re.compile(r"\[\[|''|==|\bhttps?\b")
_NOT_A_NAME = re.compile(r"[\d{}<>|\\=~^$@#*\[\]/%_:]|\.\w|&|[a-z][A-Z]")
_MAX_NAME = 40
# What else lies beside the sets: licences, labels, a read-me.
_EVALUATION_FILE = re.compile(r"tatoeba\..+-eng\.[a-z]+|.+\.(?:dev|devtest|tsv|csv)")


def letters_key(text: str) -> str:
    """Letters and digits alone, after NFKC and case folding: equal for the same wording."""
    return _SEPARATORS.sub("", unicodedata.normalize("NFKC", text).casefold())


def is_sentence(english: str, other: str, language: str) -> bool:
    """Whether a message is text of three words or more, and its translation in the right script."""
    return (
        is_sentence_pair(english, other, language)
        and not _MARKUP.search(english)
        and not _MARKUP.search(other)
        and in_script(other, language)
    )


def is_name(english: str, other: str, language: str) -> bool:
    """Whether both sides are a few words without numbers, placeholders or mark-up."""
    return (
        1 < len(english) <= _MAX_NAME
        and 0 < len(other) <= 2 * _MAX_NAME
        and not _NOT_A_NAME.search(english)
        and not _NOT_A_NAME.search(other)
        and letters_key(english) != letters_key(other)
        and in_script(english, "en")
        and in_script(other, language)
    )


class Evaluation:
    """The sentences of evaluation sets, which training text must not have.

    Args:
        folder: the evaluation sets, one folder each as `_texts` knows them.

    Raises:
        FileNotFoundError: one of the sets is not there.
    """

    def __init__(self, folder: Path) -> None:
        self.sizes: dict[str, int] = {}
        self._sets_of: dict[str, int] = {}
        self.names = ("tatoeba", "flores200_devtest", "sib200", "stsb_multi")
        for bit, name in enumerate(self.names):
            keys = {letters_key(text) for text in _texts(folder / name)} - {""}
            if not keys:
                raise FileNotFoundError(f"{folder / name}: no evaluation text was found there")
            self.sizes[name] = len(keys)
            for key in keys:
                self._sets_of[key] = self._sets_of.get(key, 0) | 1 << bit
        known = "\n".join(f"{bits} {key}" for key, bits in sorted(self._sets_of.items()))
        self.digest = sha256(known.encode()).hexdigest()

    def sets_with(self, *texts: str) -> list[str]:
        """Names of the sets that have one of the texts."""
        bits = 0
        for text in texts:
            bits |= self._sets_of.get(letters_key(text), 0)
        return [name for bit, name in enumerate(self.names) if bits >> bit & 1]


def _texts(folder: Path) -> Iterator[str]:
    """Every sentence of one evaluation set, whatever its split."""
    for path in sorted(folder.rglob("*")):
        if not _EVALUATION_FILE.fullmatch(path.name):
            continue
        with path.open(encoding="utf-8", newline="") as file:
            if path.suffix == ".csv":
                for row in csv.reader(file):
                    yield from row[:2]
            elif path.suffix == ".tsv":
                yield from _last_columns(file)
            else:
                yield from (line.rstrip("\r\n") for line in file)


def _last_columns(lines: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(lines):
        if number:  # after the header
            yield line.rstrip("\r\n").rpartition("\t")[2]
