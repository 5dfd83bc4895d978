"""Readers of parallel text, one module a format, and the registry that picks one by extension."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from ems_fast.corpus.readers.base import RawPair, Reader
from ems_fast.corpus.readers.comma_separated import Csv
from ems_fast.corpus.readers.gettext import Gettext
from ems_fast.corpus.readers.hugging_face import HuggingFace
from ems_fast.corpus.readers.json_lines import JsonLines
from ems_fast.corpus.readers.moses import Moses
from ems_fast.corpus.readers.parquet import Parquet
from ems_fast.corpus.readers.tmx import Tmx
from ems_fast.corpus.readers.tsv import Tsv
from ems_fast.corpus.readers.xliff import Xliff
from ems_fast.corpus.readers.zipped import ZippedMoses
from ems_fast.errors import InputError
from ems_fast.files.locations import Location, Url, location
from ems_fast.files.streams import COMPRESSIONS, extension
from ems_fast.text.languages import is_known, parse_pair, spell_code

__all__ = [
    "Csv",
    "Gettext",
    "HuggingFace",
    "JsonLines",
    "Moses",
    "Parquet",
    "RawPair",
    "Reader",
    "Tmx",
    "Tsv",
    "Xliff",
    "ZippedMoses",
    "open_corpora",
]

# By extension; Moses pairs have a language for an extension and are found by that.
_FORMATS: dict[str, type[Tsv | Tmx | Gettext | JsonLines | Csv | Parquet | Xliff | ZippedMoses]] = {
    ".tsv": Tsv,
    ".tmx": Tmx,
    ".po": Gettext,
    ".mo": Gettext,
    ".jsonl": JsonLines,
    ".ndjson": JsonLines,
    ".csv": Csv,
    ".parquet": Parquet,
    ".xlf": Xliff,
    ".xliff": Xliff,
    ".zip": ZippedMoses,
}
_KNOWN = (
    f"known are {', '.join(_FORMATS)} (also with {', '.join(COMPRESSIONS)}) and Moses pairs such "
    f"as name.en beside name.de"
)


def open_corpora(
    inputs: str | Path | Reader | Iterable[str | Path | Reader],
    *,
    languages: str | None = None,
    tags: Sequence[str] | None = None,
) -> list[Reader]:
    """Find a reader for every input and check all of them before any work is done.

    Args:
        inputs: files, URLs, folders and readers, mixed as you like. A folder is searched for known
            formats at any depth, in sorted order; hidden files are left out, and so are files of
            Moses pairs without a partner, .mo files beside their .po and gettext catalogues of
            the messages' own language. A Moses pair is named by its prefix or one of its files;
            at a URL, by its prefix and `languages`.
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
            place = location(item)
            if isinstance(place, Url):
                found = [_open_url(place, languages, tags)]
            else:
                found = _find(place, languages, tags)
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


def _find(path: Path, languages: str | None, tags: Sequence[str] | None) -> list[Reader]:
    """The readers of a folder, a file, or a prefix of Moses pairs."""
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if _is_visible(file, path))
    elif path.exists() and extension(path) in _FORMATS:
        return [_open(path, languages, tags)]
    else:
        parts = _moses_parts(path) if path.exists() else None
        prefix = parts[0] if parts else path
        files = [file for file in prefix.parent.glob("*") if file.is_file()]
        files = [file for file in files if (_moses_parts(file) or (None,))[0] == prefix]
    readers: list[Reader] = []
    moses: dict[Path, set[str]] = {}
    for file in files:
        if extension(file) not in _FORMATS:
            if parts := _moses_parts(file):
                moses.setdefault(parts[0], set()).add(parts[1])
        elif extension(file) != ".mo" or not file.with_suffix(".po").exists():
            reader = _open(file, languages, tags)
            if not isinstance(reader, Gettext) or not reader.in_source_language():
                readers.append(reader)
    for prefix, codes in sorted(moses.items()):
        readers += _moses(prefix, codes, languages)
    if not readers:
        if path.is_dir():
            raise InputError(f"{path}: holds no parallel text; {_KNOWN}")
        if path.exists():
            raise InputError(f"{path}: is of an unknown format; {_KNOWN}")
        raise InputError(f"{path}: does not exist")
    return readers


def _is_visible(file: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in file.relative_to(folder).parts)
    return file.is_file() and not hidden


def _open_url(url: Url, languages: str | None, tags: Sequence[str] | None) -> Reader:
    """The reader of a URL, where no folder is searched."""
    if extension(url) in _FORMATS:
        return _open(url, languages, tags)
    pair = _languages_of(url, languages)
    if pair is None:
        raise InputError(
            f"{url}: is of an unknown format; {_KNOWN}, those at a URL by their prefix, name, and "
            "languages='en-de'"
        )
    return Moses(url, *pair)


def _open(path: Location, languages: str | None, tags: Sequence[str] | None) -> Reader:
    given = _languages_of(path, languages) or ()
    if extension(path) == ".tsv":
        return Tsv(path, *given, tags=tags)
    return _FORMATS[extension(path)](path, *given)


def _languages_of(path: Location, pattern: str | None) -> tuple[str, str] | None:
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
