"""Gettext catalogues: a program's messages and their translations."""

from __future__ import annotations

import codecs
import itertools
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

from ems_fast.corpus.readers.base import FileReader, RawPair
from ems_fast.errors import InputError
from ems_fast.files.locations import Location
from ems_fast.files.streams import decode, extension, open_bytes, read_lines
from ems_fast.text.languages import check_pair, is_known, spell_code

_KEYWORD = re.compile(r'(msgctxt|msgid_plural|msgid|msgstr)(?:\[(\d{1,9})\])?[ \t]*(".*")')
_ESCAPE = re.compile(r"\\(x[0-9A-Fa-f]{1,2}|[0-7]{1,3}|.)", re.DOTALL)
_HEADER_BYTES = 1 << 13
# What a character set must leave as it is: others have no lines and strings such as a catalogue's,
# or are codes of something else than text.
_ASCII = "\t\n .xn--tda. \\u0041" + "".join(chr(c) for c in range(33, 126) if c != 92)
# A compiled catalogue is read whole, and the largest have a few megabytes.
_MOST_BYTES = 1 << 26
_LANGUAGE = re.compile(r"\s*language\s*:\s*(\S.*)", re.IGNORECASE)
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
# A keyboard mark: "&File", "_File", and in scripts without Latin letters "ファイル(&F)". It stands
# before a letter; "&" may not begin an entity, "_" not join an identifier.
_MARKS = {
    "&": re.compile(r"\s*\(&[A-Za-z0-9]\)|&(?=[^\W_])(?!\w+;)"),
    "_": re.compile(r"\s*\(_[A-Za-z0-9]\)|(?<![^\W_])(?<![.%])_(?=[^\W_])(?!\w+;)"),
}


@dataclass(frozen=True)
class Gettext(FileReader):
    """A .po or .mo catalogue; messages are in `source_lang`, translations in another language.

    Fuzzy and obsolete entries, entries without a translation and the header are skipped. Of a
    message with plural forms, the plural is paired with the last form of the translation, and the
    singular with the first where the language has exactly two forms. One keyboard mark on each
    side (``&File``, ``_File``, ``ファイル(_F)``) is removed; format placeholders stay as they are.

    Args:
        path: the file.
        source_lang: language of the messages.
        target_lang: language of the translations; without it, that of the catalogue's header, of
            the file's name (``de.po``) or of the path (``…/de/LC_MESSAGES/x.po``).
    """

    source_lang: str = "en"

    def _check_beginning(self) -> None:
        _ = self.languages

    @cached_property
    def languages(self) -> tuple[str, str]:
        """Source and target language."""
        target = self._target()
        if not target:
            raise InputError(
                f"{self.path}: its language is in neither its header, its name nor its path; "
                f"give target_lang='de' or the like"
            )
        return check_pair(self.source_lang, target, str(self.path))

    def in_source_language(self) -> bool:
        """Whether the catalogue is one of the messages' own language, which holds no pairs."""
        target = self._target()
        return target is not None and spell_code(target) == self.source_lang

    def _target(self) -> str | None:
        if self.target_lang:
            return self.target_lang
        # The header, which comes first, is the translation of nothing.
        headers = itertools.takewhile(lambda entry: not entry.id, self._entries())
        lines = (line for header in headers for line in header.strings.get(0, "").split("\n"))
        values = (match[1] for line in lines if (match := _LANGUAGE.match(line)))
        code = next(map(_spelt, values), None)
        if code is not None:
            return code
        path = self.location
        stem = path.name.split(".")[0]
        if is_known(stem):
            return stem
        # Any code will do for this folder: nothing else stands there.
        return _spelt(path.parent.parent.name) if path.parent.name == "LC_MESSAGES" else None

    def __iter__(self) -> Iterator[RawPair]:
        """The pairs in the order of the file."""
        source_lang, target_lang = self.languages
        for entry in self._entries():
            if not entry.id or entry.fuzzy:
                continue
            for source, target in entry.pairs():
                if target:
                    yield RawPair(
                        *strip_accelerators(source, target), source_lang, target_lang, entry.line
                    )

    def _entries(self) -> Iterator[_Entry]:
        path = self.location
        return _read_mo(path) if extension(path) == ".mo" else _read_po(path)


@dataclass
class _Entry:
    line: int
    id: str = ""
    plural: str | None = None
    strings: dict[int, str] = field(default_factory=dict)
    fuzzy: bool = False

    def put(self, keyword: str, index: int, text: str) -> None:
        if keyword == "msgid":
            self.id = text
        elif keyword == "msgid_plural":
            self.plural = text
        elif keyword == "msgstr":
            self.strings[index] = text

    def pairs(self) -> Iterator[tuple[str, str]]:
        if self.plural is None:
            yield self.id, self.strings.get(0, "")
            return
        last = max(self.strings, default=0)
        if last == 1:
            # With two forms the first is the singular; with more it may be zero, one or many.
            yield self.id, self.strings.get(0, "")
        yield self.plural, self.strings.get(last, "")


def strip_accelerators(source: str, target: str) -> tuple[str, str]:
    """Remove a keyboard mark where each side has exactly one; otherwise leave both as they are."""
    for mark, pattern in _MARKS.items():
        if source.count(mark) == target.count(mark) == 1:
            (a, in_source), (b, in_target) = pattern.subn("", source), pattern.subn("", target)
            if in_source and in_target:
                return a, b
    return source, target


def _spelt(code: str) -> str | None:
    """The code in one spelling; None where it is none, but a language's name in words."""
    try:
        return spell_code(code)
    except InputError:
        return None


def _read_po(path: Location) -> Iterator[_Entry]:
    # Before the first line is decoded: the header may hold a name in the old character set.
    with open_bytes(path) as file:
        encoding = _charset(file.read(_HEADER_BYTES), path)
    entry = _Entry(line=1)
    keyword, index, parts = "", 0, [""]  # of what is being read
    fuzzy = False
    number = 0
    for number, text in read_lines(path, encoding):
        line = text.strip()
        if line.startswith("#"):
            if line.startswith("#,"):
                fuzzy = fuzzy or "fuzzy" in re.split(r"[,\s]+", line)
            continue
        if not line:
            continue
        if line.startswith('"'):
            if not keyword or not line.endswith('"') or len(line) < 2:
                raise InputError(f"{path}, line {number}: a string without its keyword or end")
            parts.append(_unescape(line[1:-1]))
            continue
        match = _KEYWORD.fullmatch(line)
        if match is None:
            raise InputError(f"{path}, line {number}: is no line of a PO file: {line[:60]!r}")
        entry.put(keyword, index, "".join(parts))
        before, keyword, index = keyword, match[1], int(match[2] or 0)
        if keyword == "msgctxt" or (keyword == "msgid" and before != "msgctxt"):
            if entry.strings:
                yield entry
            entry = _Entry(line=number, fuzzy=fuzzy)
            fuzzy = False
        elif keyword == "msgid":
            entry.line = number
        parts = [_unescape(match[3][1:-1])]
    entry.put(keyword, index, "".join(parts))
    if entry.strings:
        yield entry
    elif entry.id:
        raise InputError(f"{path}, line {number}: ends within an entry; the file is cut off")


def _charset(header: bytes, path: Location) -> str:
    """The character set that the header declares; UTF-8 where it says none."""
    match = re.search(rb"charset=([\w.:-]+)", header)
    if match is None or match[1].upper() == b"CHARSET":
        return "utf-8"
    name = match[1].decode()
    try:
        found = codecs.lookup(name).name
        if _ASCII.encode().decode(found) == _ASCII:
            return found
    except (LookupError, UnicodeError):  # unknown, of bytes to bytes, or of other lengths
        pass
    raise InputError(f"{path}: declares the unknown charset {name!r}; convert the file to UTF-8")


def _unescape(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        code = match[1]
        if code[0] == "x" and len(code) > 1:
            return chr(int(code[1:], 16))
        if code[0] in "01234567":
            return chr(int(code, 8) & 0xFF)
        return _ESCAPES.get(code, code)

    return _ESCAPE.sub(replace, text)


def _read_mo(path: Location) -> Iterator[_Entry]:
    """The entries of a compiled catalogue; it is read whole, being a program's messages only."""
    with open_bytes(path) as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise InputError(f"{path}: has more than {_MOST_BYTES:,} bytes, expected a program's texts")
    try:
        order = {0x950412DE: "<", 0xDE120495: ">"}[struct.unpack_from("<I", data)[0]]
        count, ids, strings = struct.unpack_from(order + "3I", data, 8)
        encoding = "utf-8"
        for index in range(count):
            id_bytes = _mo_string(data, order, ids + 8 * index)
            string_bytes = _mo_string(data, order, strings + 8 * index)
            if not id_bytes:  # the header, which sorts first
                encoding = _charset(string_bytes, path)
            where = f"{path}, line {index + 1}"
            message = decode(id_bytes, encoding, where).rpartition("\x04")[2]
            translation = decode(string_bytes, encoding, where)
            singular, separator, plural = message.partition("\0")
            yield _Entry(
                line=index + 1,
                id=singular,
                plural=plural if separator else None,
                strings=dict(enumerate(translation.split("\0"))),
            )
    except (KeyError, struct.error) as error:
        raise InputError(f"{path}: is no compiled gettext catalogue, or is cut off") from error


def _mo_string(data: bytes, order: str, position: int) -> bytes:
    length, offset = struct.unpack_from(order + "2I", data, position)
    if offset + length > len(data):
        raise struct.error("string beyond the end")
    return data[offset : offset + length]
