"""Evaluation sets: aligned sentences of two languages, found by the names of their files."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from ems_fast.errors import InputError
from ems_fast.text.languages import is_language, normalize_language

Split = Literal["dev", "test"]
ENGLISH = "en"
# name.deu-eng.deu, its partner being name.deu-eng.eng
_PAIR_IN_NAME = re.compile(
    r"(?P<name>.+)\.(?P<first>[a-z]{2,3})-(?P<second>[a-z]{2,3})\.(?P<side>[a-z]{2,3})\Z"
)
# name.de-en.tsv
_TSV = re.compile(r"(?P<name>.+)\.(?P<first>[a-z]{2,3})-(?P<second>[a-z]{2,3})\.tsv\Z")
# deu_Latn.devtest, one file a language
_SCRIPT_IN_NAME = re.compile(r"(?P<code>[a-z]{3})_(?P<script>[A-Z][a-z]{3})\.(?P<split>\w+)\Z")
# name.de, its partners being name.en, name.fr …
_SUFFIX = re.compile(r"(?P<name>.+)\.(?P<code>[a-z]{2,3})\Z")

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


@dataclass(frozen=True)
class _Candidate:
    """A set that was recognised by its files' names and is not read yet."""

    name: str
    source_lang: str
    target_lang: str
    files: tuple[Path, ...]  # source and target, or one TSV
    swapped: bool = False  # a TSV's first column is the target


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
    candidates = _find(path)
    if not candidates:
        raise InputError(
            f"{path}: holds no evaluation set that can be recognised; expected {EXPECTED}"
        )
    candidates = _keep_languages(candidates, languages, path)
    candidates.sort(key=lambda c: (c.name, c.source_lang, c.target_lang))
    lines = cache(read_lines)  # a file that many sets share is read once
    return [_read(candidate, lines) for candidate in candidates]


def holds_eval_sets(path: Path) -> bool:
    """Whether `read_eval_sets` would recognise something in a folder or file.

    Raises:
        InputError: no such folder or file, or a file of a set has no partner.
    """
    return bool(_find(path))


def folders_in(path: Path) -> list[Path]:
    """A folder and its subfolders, or the folder of a file.

    Raises:
        InputError: no such folder or file.
    """
    if path.is_dir():
        return [path, *sorted(p for p in path.rglob("*") if p.is_dir())]
    if path.is_file():
        return [path.parent]
    raise InputError(f"{path}: no such file or folder, expected evaluation sets")


def check_split(split: str) -> None:
    """Raise `InputError` unless `split` is one of `Split`."""
    if split not in get_args(Split):
        raise InputError(f"split: got {split!r}, expected 'dev' or 'test'")


def chosen_languages(languages: Iterable[str] | None) -> list[str] | None:
    """Normalise a choice of languages; None stands for all.

    Raises:
        InputError: one string instead of several, or not of the form of a code.
    """
    if isinstance(languages, str):
        raise InputError(f"languages: got the string {languages!r}, expected a list of codes")
    return None if languages is None else [normalize_language(code) for code in languages]


def _find(path: Path) -> list[_Candidate]:
    return [found for folder in folders_in(path) for found in _recognize(folder, path)]


def _recognize(folder: Path, path: Path) -> list[_Candidate]:
    """List the sets of one folder; only those that `path` is part of, if it is a file."""
    found: list[_Candidate] = []
    sides: dict[tuple[str, str, str], dict[str, Path]] = defaultdict(dict)
    splits: dict[str, dict[str, Path]] = defaultdict(dict)
    parallel: dict[str, dict[str, Path]] = defaultdict(dict)
    for file in sorted(p for p in folder.iterdir() if p.is_file()):
        if match := _TSV.match(file.name):
            if is_language(match["first"]) and is_language(match["second"]):
                found.append(_tsv(match, file))
        elif match := _PAIR_IN_NAME.match(file.name):
            if match["side"] in (match["first"], match["second"]):
                sides[match["name"], match["first"], match["second"]][match["side"]] = file
        elif match := _SCRIPT_IN_NAME.match(file.name):
            splits[match["split"]][f"{match['code']}_{match['script']}"] = file
        elif (match := _SUFFIX.match(file.name)) and is_language(match["code"]):
            parallel[match["name"]][match["code"]] = file

    def wanted(files: Iterable[Path]) -> bool:
        return not path.is_file() or path in files

    for (name, first, second), files in sides.items():
        if wanted(files.values()):
            found.append(_named_pair(name, first, second, files))
    for split, files in splits.items():
        if wanted(files.values()):
            name = folder.name if len(splits) == 1 else f"{folder.name}.{split}"
            found += _against_english(name, files)
    for name, files in parallel.items():
        if wanted(files.values()):
            found += _against_english(name, files)
    return [candidate for candidate in found if wanted(candidate.files)]


def _directed(first: str, second: str) -> bool:
    """Whether a pair is already in our order: English is the target, others are alphabetical."""
    if ENGLISH in (first, second):
        return second == ENGLISH
    return first <= second


def _tsv(match: re.Match[str], file: Path) -> _Candidate:
    first, second = (_language_of(file, match[side]) for side in ("first", "second"))
    if _directed(first, second):
        return _Candidate(match["name"], first, second, (file,))
    return _Candidate(match["name"], second, first, (file,), swapped=True)


def _named_pair(name: str, first: str, second: str, files: dict[str, Path]) -> _Candidate:
    if len(files) < 2:
        ((side, file),) = files.items()
        missing = second if side == first else first
        raise InputError(
            f"{file}: its translations {file.with_suffix('.' + missing).name} are missing beside it"
        )
    languages = {code: _language_of(files[code], code) for code in (first, second)}
    if not _directed(languages[first], languages[second]):
        first, second = second, first
    return _Candidate(name, languages[first], languages[second], (files[first], files[second]))


def _against_english(name: str, files: dict[str, Path]) -> list[_Candidate]:
    """The sets of files that translate each other: two make a pair, more go against English."""
    file = next(iter(files.values()))
    if len(files) == 1:
        raise InputError(f"{file}: there is no file of the same name in another language beside it")
    labels = label_languages(files)
    english = [code for code, label in labels.items() if label.split("_")[0] == ENGLISH]
    if not english and len(files) > 2:
        raise InputError(
            f"{file}: {len(files)} languages share this name and English is not one of them, "
            f"so there is nothing to pair them with"
        )
    pivot = english[0] if english else max(labels, key=labels.__getitem__)
    return [
        _Candidate(name, labels[code], labels[pivot], (other, files[pivot]))
        for code, other in files.items()
        if code != pivot
    ]


def label_languages(files: dict[str, Path]) -> dict[str, str]:
    """Languages of codes as they stand in file names, told apart by script where needed."""
    languages = {code: _language_of(file, code) for code, file in files.items()}
    count = Counter(languages.values())
    labels = {
        code: language if count[language] == 1 else _with_script(language, code)
        for code, language in languages.items()
    }
    for label, times in Counter(labels.values()).items():
        if times > 1:
            same = ", ".join(files[code].name for code in files if labels[code] == label)
            raise InputError(
                f"{next(iter(files.values())).parent}: {same} are all of language {label!r}; "
                f"keep one of them"
            )
    return labels


def _with_script(language: str, code: str) -> str:
    _, _, script = code.partition("_")
    return f"{language}_{script}" if script else language


def _language_of(file: Path, code: str) -> str:
    try:
        return normalize_language(code)
    except InputError as error:
        raise InputError(f"{file}: {error}") from error


def _keep_languages(
    candidates: list[_Candidate], languages: Iterable[str] | None, path: Path
) -> list[_Candidate]:
    asked = chosen_languages(languages)
    if asked is None:
        return candidates
    wanted = {*asked, ENGLISH}
    kept = [
        candidate
        for candidate in candidates
        if {candidate.source_lang.split("_")[0], candidate.target_lang.split("_")[0]} <= wanted
    ]
    if not kept:
        there = {c.source_lang for c in candidates} | {c.target_lang for c in candidates}
        raise InputError(
            f"languages: {path} has no set for {', '.join(asked) or 'none'}; "
            f"it has {', '.join(sorted(there))}"
        )
    return kept


def _read(candidate: _Candidate, lines: Callable[[Path], tuple[str, ...]]) -> EvalSet:
    if len(candidate.files) == 1:
        source, target = _columns(candidate.files[0], lines)
        if candidate.swapped:
            source, target = target, source
    else:
        source, target = (lines(file) for file in candidate.files)
        if len(source) != len(target):
            raise InputError(
                f"{candidate.files[0]} and {candidate.files[1]}: have {len(source)} and "
                f"{len(target)} lines, expected the same number, translations in order"
            )
    return EvalSet(candidate.name, candidate.source_lang, candidate.target_lang, source, target)


def _columns(
    file: Path, lines: Callable[[Path], tuple[str, ...]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    source, target = [], []
    for number, line in enumerate(lines(file), 1):
        columns = line.split("\t")
        if len(columns) < 2:
            raise InputError(
                f"{file}:{number}: has one column, expected two sentences with a tab between them"
            )
        source.append(columns[0])
        target.append(columns[1])
    return tuple(source), tuple(target)


def read_lines(file: Path) -> tuple[str, ...]:
    """The lines of a UTF-8 file, without their ends."""
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror})") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{file}:{line}: is not UTF-8 (byte 0x{content[error.start]:02x}); "
            f"convert the file to UTF-8"
        ) from error
    if not text.strip():
        raise InputError(f"{file}: is empty, expected one sentence a line")
    # Not splitlines(): it also breaks at characters that sentences may hold, such as U+2028.
    return tuple(line.removesuffix("\r") for line in text.removesuffix("\n").split("\n"))
