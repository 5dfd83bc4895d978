"""What all kinds of evaluation ask of their folders: files by language, read with checks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar, get_args

from ems_fast.errors import InputError
from ems_fast.files import streams
from ems_fast.text.languages import normalize_language

Split = Literal["dev", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
T = TypeVar("T")


def subfolders(path: Path) -> list[Path]:
    """A folder and all below it; none of what is no folder."""
    return [path, *sorted(p for p in path.rglob("*") if p.is_dir())] if path.is_dir() else []


def label_languages(files: Mapping[str, Path]) -> dict[str, Path]:
    """The files of codes as they stand in names, by language; with the script where needed.

    Raises:
        InputError: not a code, or two files of the same language.
    """
    languages = {}
    for code, file in files.items():
        try:
            languages[code] = normalize_language(code)
        except InputError as error:
            raise InputError(f"{file}: {error}") from error
    count = Counter(languages.values())
    labels: dict[str, list[Path]] = defaultdict(list)
    for code, language in languages.items():
        _, _, script = code.partition("_")
        label = f"{language}_{script}" if script and count[language] > 1 else language
        labels[label].append(files[code])
    for label, same in labels.items():
        if len(same) > 1:
            raise InputError(
                f"{same[0].parent}: {', '.join(file.name for file in same)} are all of language "
                f"{label!r}; keep one of them"
            )
    return {label: file for label, (file,) in sorted(labels.items())}


def language_of(label: str) -> str:
    """The language of what `label_languages` gave."""
    return label.split("_")[0]


def chosen_languages(languages: Iterable[str] | None) -> list[str] | None:
    """Normalise a choice of languages; None stands for all.

    Raises:
        InputError: one string instead of several, or not of the form of a code.
    """
    if isinstance(languages, str):
        raise InputError(f"languages: got the string {languages!r}, expected a list of codes")
    return None if languages is None else [normalize_language(code) for code in languages]


def keep_languages(
    found: Sequence[T],
    labels_of: Callable[[T], Iterable[str]],
    languages: Iterable[str] | None,
    *,
    always: Iterable[str] = (),
    where: str,
) -> list[T]:
    """Keep what has only languages (`labels_of` it) that are chosen or `always` there.

    Raises:
        InputError: as `chosen_languages`, or nothing is left; `where` begins the message.
    """
    asked = chosen_languages(languages)
    if asked is None:
        return list(found)
    wanted = {*asked, *always}
    kept = [item for item in found if wanted.issuperset(map(language_of, labels_of(item)))]
    if not kept:
        there = sorted({label for item in found for label in labels_of(item)})
        raise InputError(
            f"languages: {where} {', '.join(asked) or 'none'}; it has {', '.join(there)}"
        )
    return kept


def read_lines(file: Path) -> tuple[str, ...]:
    """The lines of a UTF-8 file, without their ends.

    Raises:
        InputError: it cannot be read, is not UTF-8 or holds nothing but blanks.
    """
    lines = tuple(line for _, line in streams.read_lines(file))
    if not any(map(str.strip, lines)):
        raise InputError(f"{file}: is empty, expected one sentence a line")
    return lines
