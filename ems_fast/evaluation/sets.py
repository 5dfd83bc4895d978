"""Evaluation sets: aligned sentences of two languages, found by the names of their files."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ems_fast.encoding.protocol import check_translations
from ems_fast.errors import InputError
from ems_fast.evaluation import folders
from ems_fast.text.languages import is_language, normalize_language

ENGLISH = "en"
# deu_Latn.devtest, one file a language
_SCRIPT_IN_NAME = re.compile(r"(?P<code>[a-z]{3}_[A-Z][a-z]{3})\.(?P<split>\w+)\Z")
# name.deu-eng.deu, its partner being name.deu-eng.eng; or name.de, its partners being name.en,
# name.fr …; or name.de-en.tsv
_SUFFIX = re.compile(
    r"(?P<name>.+?)(?:\.(?P<first>[a-z]{2,3})-(?P<second>[a-z]{2,3}))?\.(?P<suffix>[a-z]{2,3})\Z"
)

EXPECTED = (
    "name.de-en.de beside name.de-en.en, name.de beside name.en, "
    "deu_Latn.devtest beside eng_Latn.devtest, or name.de-en.tsv"
)


@dataclass(frozen=True)
class EvalSet:
    """Sentences and their translations.

    Attributes:
        name: of the collection, such as ``tatoeba``; several sets share it.
        source_lang: as `normalize_language` has it; with the script appended (``zh_Hant``) where
            the collection holds the language in several.
        target_lang: the same for the target; English, where it is one of the two.
        source: n sentences.
        target: their translations, in the same order.
    """

    name: str
    source_lang: str
    target_lang: str
    source: tuple[str, ...]
    target: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.source)


class _Side(NamedTuple):
    """Where one side of a set is: in a file, or in a column of a TSV file."""

    language: str
    file: Path
    column: int | None = None


class _Candidate(NamedTuple):
    """A set that was recognised by its files' names and is not read yet."""

    name: str
    source: _Side
    target: _Side

    @property
    def languages(self) -> tuple[str, str]:
        return self.source.language, self.target.language


def read_eval_sets(path: str | Path, *, languages: Iterable[str] | None = None) -> list[EvalSet]:
    """Read the evaluation sets of a folder and its subfolders, or the one that a file is part of.

    Recognised are, by their names: pairs named after both languages, as in LASER's Tatoeba sets
    (``tatoeba.deu-eng.deu`` and ``tatoeba.deu-eng.eng``); Moses pairs (``name.de`` and
    ``name.en``); folders with one file a language, as in FLORES (``deu_Latn.devtest``,
    ``eng_Latn.devtest`` …), and ``name.xx`` in three languages or more: each language against
    English; and TSV files (``name.de-en.tsv``), whose first two columns are the sentences. Files
    with other names are passed over.

    Args:
        path: a folder or a file, UTF-8.
        languages: keep the sets whose languages are both in here, in any form that
            `normalize_language` takes; English always is.

    Returns:
        The sets, ordered by name and languages.

    Raises:
        InputError: nothing is recognised or left, a file has no partner, is empty or not UTF-8,
            two files have different numbers of lines, or a line of a TSV has one column.
    """
    path = Path(path)
    candidates = find_eval_sets(path)
    if not candidates:
        raise InputError(
            f"{path}: holds no evaluation set that can be recognised; expected {EXPECTED}"
        )
    where = f"{path} has no set for"
    kept = folders.keep_languages(
        candidates, lambda c: c.languages, languages, always=[ENGLISH], where=where
    )
    read = cache(_read)  # a file that many sets share is read once
    sets = []
    for candidate in sorted(kept, key=lambda c: (c.name, c.languages)):
        _, (_, file, column), (_, other, other_column) = candidate
        source, target = read(file, column), read(other, other_column)
        check_translations(str(file), source, str(other), target)
        sets.append(EvalSet(candidate.name, *candidate.languages, source, target))
    return sets


def find_eval_sets(path: Path) -> list[_Candidate]:
    """What `read_eval_sets` would read of a folder or file.

    Raises:
        InputError: no such folder or file, or a file of a set has no partner.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file or folder, expected evaluation sets")
    return [
        candidate
        for folder in folders.subfolders(path) or [path.parent]
        for candidate in _recognize(folder, path)
        if path.is_dir() or path in (candidate.source.file, candidate.target.file)
    ]


def _recognize(folder: Path, path: Path) -> list[_Candidate]:
    """List the sets of one folder; of files that belong together, those that `path` is among."""
    found: list[_Candidate] = []
    splits: dict[str, dict[str, Path]] = defaultdict(dict)
    groups: dict[tuple[str, str, str], dict[str, Path]] = defaultdict(dict)
    for file in sorted(p for p in folder.iterdir() if p.is_file()):
        if match := _SCRIPT_IN_NAME.match(file.name):
            splits[match["split"]][match["code"]] = file
        elif match := _SUFFIX.match(file.name):
            name, first, second, suffix = match.groups(default="")
            if first and suffix == "tsv":
                if is_language(first) and is_language(second):
                    codes = map(normalize_language, (first, second))
                    sides = [_Side(code, file, column) for column, code in enumerate(codes)]
                    sides.sort(key=lambda side: (side.language == ENGLISH, side.language))
                    found.append(_Candidate(name, *sides))
            elif suffix in (first, second) if first else is_language(suffix):
                groups[name, first, second][suffix] = file
    named = [(name, pair, files) for (name, *pair), files in groups.items()]
    for split, files in splits.items():
        name = folder.name if len(splits) == 1 else f"{folder.name}.{split}"
        named.append((name, ["", ""], files))
    for name, pair, files in named:
        if path.is_dir() or path in files.values():
            found += _against_english(name, pair, files)
    return found


def _against_english(name: str, pair: list[str], files: dict[str, Path]) -> list[_Candidate]:
    """The sets of files that translate each other: two make a pair, more go against English."""
    code, file = next(iter(files.items()))
    if len(files) == 1 and any(pair):
        missing = file.with_suffix(f".{pair[1] if code == pair[0] else pair[0]}")
        raise InputError(f"{file}: its translations {missing.name} are missing beside it")
    if len(files) == 1:
        raise InputError(f"{file}: there is no file of the same name in another language beside it")
    sides = [_Side(label, file) for label, file in folders.label_languages(files).items()]
    english = [side for side in sides if folders.language_of(side.language) == ENGLISH]
    if not english and len(sides) > 2:
        raise InputError(
            f"{file}: {len(sides)} languages share this name and English is not one of "
            f"them, so there is nothing to pair them with"
        )
    pivot = english[0] if english else sides[-1]  # English, or the last of the alphabet
    return [_Candidate(name, side, pivot) for side in sides if side is not pivot]


def _read(file: Path, column: int | None) -> tuple[str, ...]:
    """The lines of a file, or of one of the first two columns of a TSV file."""
    lines = folders.read_lines(file)
    if column is None:
        return lines
    rows = [line.split("\t") for line in lines]
    for number, row in enumerate(rows, 1):
        if len(row) < 2:
            raise InputError(
                f"{file}:{number}: has one column, expected two sentences with a tab between them"
            )
    return tuple(row[column] for row in rows)
