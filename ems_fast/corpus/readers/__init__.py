"""Readers of parallel text, one module a format, and the registry that picks one by extension."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ems_fast.corpus.readers.base import RawPair, Reader
from ems_fast.corpus.readers.gettext import Gettext
from ems_fast.corpus.readers.moses import Moses
from ems_fast.corpus.readers.tmx import Tmx
from ems_fast.corpus.readers.tsv import Tsv
from ems_fast.errors import InputError
from ems_fast.files.streams import COMPRESSIONS, extension
from ems_fast.text.codes import is_known, parse_pair, spell_code

__all__ = ["Gettext", "Moses", "RawPair", "Reader", "Tmx", "Tsv", "open_corpora"]

_Languages = tuple[str, str] | None
_Open = Callable[[Path, _Languages, Sequence[str] | None], Reader]


def _open_tsv(path: Path, languages: _Languages, tags: Sequence[str] | None) -> Reader:
    return Tsv(path, *(languages or (None, None)), tags=tags)


def _open_tmx(path: Path, languages: _Languages, tags: Sequence[str] | None) -> Reader:
    return Tmx(path, *(languages or (None, None)))


def _open_gettext(path: Path, languages: _Languages, tags: Sequence[str] | None) -> Reader:
    return Gettext(path, *languages) if languages else Gettext(path)


# Extension → reader. Moses pairs have a language for an extension and are found by that.
_FORMATS: dict[str, _Open] = {
    ".tsv": _open_tsv,
    ".tmx": _open_tmx,
    ".po": _open_gettext,
    ".mo": _open_gettext,
}


def open_corpora(
    inputs: str | Path | Reader | Iterable[str | Path | Reader],
    *,
    languages: str | None = None,
    tags: Sequence[str] | None = None,
) -> list[Reader]:
    """Find a reader for every input and check all of them before any work is done.

    Args:
        inputs: files, folders and readers, mixed as you like. A folder is searched for known
            formats at any depth, in sorted order; hidden files are left out, and so are files of
            Moses pairs without a partner, .mo files beside their .po and gettext catalogues of
            the messages' own language. A Moses pair is named by its prefix or one of its files.
        languages: the languages of files that do not say, such as ``en-de``; ``{stem}`` stands
            for the file's name up to the first dot: ``en-{stem}`` for a folder of ``de.tsv``...
        tags: for TSV files with a column of tags, keep only lines with one of these.

    Returns:
        The readers, checked, each once.

    Raises:
        InputError: a file is missing, empty, of unknown format or damaged at its beginning, or
            nothing is found.
    """
    if isinstance(inputs, (str, Path, Reader)):
        inputs = [inputs]
    readers: list[Reader] = []
    for item in inputs:
        if isinstance(item, (str, Path)):
            path = Path(item)
            found = (
                _search_folder(path, languages, tags)
                if path.is_dir()
                else _open_path(path, languages, tags)
            )
        elif isinstance(item, Reader):
            found = [item]
        else:
            raise InputError(
                f"corpora: {item!r} is neither a path nor a reader such as Tsv or Moses"
            )
        readers += [reader for reader in found if reader not in readers]
    if not readers:
        raise InputError("corpora: none given; give at least one file, folder or reader")
    for reader in readers:
        reader.check()
    return readers


def _languages_of(path: Path, pattern: str | None) -> _Languages:
    """The languages that the pattern gives to this file."""
    if pattern is None:
        return None
    stem = path.name.split(".")[0]
    text = pattern.replace("{stem}", stem)
    pair = parse_pair(text)
    if pair is None:
        raise InputError(
            f"{path}: languages={pattern!r} gives {text!r}, which is not a pair of languages such "
            f"as 'en-de'"
        )
    return pair


def _moses_parts(path: Path) -> tuple[Path, str] | None:
    """Prefix and language of a file of a Moses pair, or None."""
    code = extension(path).removeprefix(".")
    if not is_known(code):
        return None
    name = path.name
    for suffix in COMPRESSIONS:
        name = name.removesuffix(suffix)
    return path.with_name(name[: -len(code) - 1]), code


def _moses(prefix: Path, codes: Iterable[str], pattern: str | None) -> list[Reader]:
    """Pairs of the line-aligned files ``prefix.<code>``: those asked for, else every two."""
    by_language = {spell_code(code): code for code in sorted(codes)}
    pair = _languages_of(prefix, pattern)
    if pair is not None:
        if not by_language.keys() >= set(pair):
            return []
        return [Moses(prefix, by_language[pair[0]], by_language[pair[1]])]
    return [Moses(prefix, a, b) for a, b in itertools.combinations(by_language.values(), 2)]


def _siblings(prefix: Path) -> list[str]:
    """The languages of the files ``prefix.<code>`` beside each other."""
    if not prefix.parent.is_dir():
        return []
    parts = (_moses_parts(path) for path in prefix.parent.iterdir() if path.is_file())
    return [code for found in parts if found for stem, code in [found] if stem == prefix]


def _open_path(path: Path, languages: str | None, tags: Sequence[str] | None) -> list[Reader]:
    if path.exists():
        open_format = _FORMATS.get(extension(path))
        if open_format is not None:
            return [open_format(path, _languages_of(path, languages), tags)]
        parts = _moses_parts(path)
        prefix = parts[0] if parts else path
    else:
        prefix = path
    found = _moses(prefix, _siblings(prefix), languages)
    if found:
        return found
    if not path.exists():
        raise InputError(f"{path}: does not exist")
    raise InputError(
        f"{path}: is of an unknown format; known are {', '.join(_FORMATS)} (also with "
        f"{', '.join(COMPRESSIONS)}) and Moses pairs such as name.en beside name.de"
    )


def _search_folder(folder: Path, languages: str | None, tags: Sequence[str] | None) -> list[Reader]:
    readers: list[Reader] = []
    moses: dict[Path, set[str]] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or any(
            part.startswith(".") for part in path.relative_to(folder).parts
        ):
            continue
        open_format = _FORMATS.get(extension(path))
        if open_format is None:
            if parts := _moses_parts(path):
                moses.setdefault(parts[0], set()).add(parts[1])
            continue
        if extension(path) == ".mo" and path.with_suffix(".po").exists():
            continue
        reader = open_format(path, _languages_of(path, languages), tags)
        if isinstance(reader, Gettext) and reader.in_source_language():
            continue
        readers.append(reader)
    for prefix, codes in sorted(moses.items()):
        readers += _moses(prefix, codes, languages)
    if not readers:
        raise InputError(
            f"{folder}: holds no parallel text; known are {', '.join(_FORMATS)} (also with "
            f"{', '.join(COMPRESSIONS)}) and Moses pairs such as name.en beside name.de"
        )
    return readers
