"""Tab-separated text: a pair a line, languages given or found out."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from ems_fast.corpus.readers.base import RawPair
from ems_fast.errors import InputError
from ems_fast.files.streams import check_file, read_lines
from ems_fast.text.codes import (
    check_pair,
    is_known,
    pair_from_file_name,
    parse_pair,
    spell_code,
)

_SAMPLE_LINES = 1000
# A value of a column of tags, scores or codes; sentences have spaces, letters beyond ASCII or
# punctuation that this does not allow.
_LABEL = re.compile(r"[A-Za-z0-9_.:/+-]{1,32}")


@dataclass(frozen=True)
class _Layout:
    """What the columns of a file are."""

    columns: int
    source: int
    target: int
    languages: tuple[str, str] | None  # None: in `language_column`
    language_column: int | None
    tag_column: int | None
    header: bool


@dataclass(frozen=True)
class Tsv:
    """A tab-separated file, plain or compressed (.gz, .zst, .xz), one pair a line, UTF-8.

    The languages come from the first of these that is there: the arguments; a header line whose
    column names are language codes (``en<TAB>de``); a column of values such as ``de-fr``; the
    file's name (``en-de.tsv``, ``news.en-de.tsv.gz``). Text is taken as it is, without quoting.
    Blank lines are skipped.

    With more than two columns, the two of text are those named in `columns`, those that a header
    names by language, or what is left when a column of languages, the tags and columns of
    labels or scores (short ASCII values without spaces) are set aside.

    Args:
        path: the file.
        source_lang: language of the first text column.
        target_lang: language of the second text column.
        columns: the two text columns, as indices from 0 or as names in the header line.
        tag_column: index or name of a column to filter on. Found out where `tags` is given.
        tags: keep only lines with one of these tags.
        language_column: index or name of the column of values such as ``de-fr``.

    Raises:
        InputError: from `check` and from iterating; the message names file and line.
    """

    path: str | Path
    source_lang: str | None = None
    target_lang: str | None = None
    columns: Sequence[int] | Sequence[str] | None = field(default=None, kw_only=True)
    tag_column: int | str | None = field(default=None, kw_only=True)
    tags: Sequence[str] | None = field(default=None, kw_only=True)
    language_column: int | str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        def put(name: str, value: object) -> None:
            object.__setattr__(self, name, value)  # the dataclass is frozen

        path = self.path
        put("path", Path(path))
        if self.source_lang is not None and self.target_lang is not None:
            source_lang, target_lang = check_pair(self.source_lang, self.target_lang, str(path))
            put("source_lang", source_lang)
            put("target_lang", target_lang)
            if self.language_column is not None:
                raise InputError(
                    f"{path}: languages are given twice, as {source_lang}-{target_lang} and as "
                    f"language_column={self.language_column!r}; give one of them"
                )
        elif self.source_lang is not None or self.target_lang is not None:
            raise InputError(f"{path}: give both source_lang and target_lang, or neither")
        if self.columns is not None:
            columns = tuple(self.columns)
            if len(columns) != 2 or columns[0] == columns[1]:
                raise InputError(f"{path}: columns must be two different columns, got {columns!r}")
            put("columns", columns)
        if isinstance(self.tags, str):
            raise InputError(f"{path}: tags must be a list of strings, got {self.tags!r}")
        if self.tags is not None:
            put("tags", tuple(self.tags))
        elif self.tag_column is not None:
            raise InputError(f"{path}: tag_column={self.tag_column!r} needs tags, those to keep")

    @property
    def name(self) -> str:
        """The file's path."""
        return str(self.path)

    def check(self) -> None:
        """Find out the columns and languages from the first lines of the file.

        Raises:
            InputError: the file is missing or empty, or its layout is not clear.
        """
        check_file(Path(self.path))
        _ = self._layout

    def __iter__(self) -> Iterator[RawPair]:
        """The pairs in the order of the file."""
        layout = self._layout
        tags = frozenset(self.tags) if self.tags is not None else None
        pairs: dict[str, tuple[str, str]] = {}  # language column: value → languages
        source_lang, target_lang = layout.languages or ("", "")
        for number, line in itertools.islice(
            read_lines(Path(self.path)), 1 if layout.header else 0, None
        ):
            cells = line.split("\t")
            if len(cells) != layout.columns:
                if not line or line.isspace():
                    continue
                raise InputError(self._wrong_count(number, len(cells), layout.columns))
            if (
                tags is not None
                and layout.tag_column is not None
                and cells[layout.tag_column] not in tags
            ):
                continue
            if layout.language_column is not None:
                value = cells[layout.language_column]
                languages = pairs.get(value)
                if languages is None:
                    languages = pairs[value] = self._parse_languages(value, number)
                source_lang, target_lang = languages
            yield RawPair(
                cells[layout.source], cells[layout.target], source_lang, target_lang, number
            )

    def _parse_languages(self, value: str, number: int) -> tuple[str, str]:
        pair = parse_pair(value)
        if pair is None or pair[0] == pair[1]:
            raise InputError(
                f"{self.path}, line {number}: {value!r} in the column of languages is not a pair "
                f"of languages such as 'de-fr'"
            )
        return pair

    def _wrong_count(self, number: int, actual: int, expected: int) -> str:
        return (
            f"{self.path}, line {number}: has {actual} tab-separated "
            f"{'column' if actual == 1 else 'columns'}, expected {expected}"
        )

    @cached_property
    def _layout(self) -> _Layout:
        rows = [
            (number, line.split("\t"))
            for number, line in itertools.islice(read_lines(Path(self.path)), _SAMPLE_LINES)
            if line and not line.isspace()
        ]
        if not rows:
            raise InputError(f"{self.path}: the file has no text in its first lines")
        count = len(rows[0][1])
        if count < 2:
            raise InputError(self._wrong_count(rows[0][0], count, 2) + " or more")
        for number, cells in rows:
            if len(cells) != count:
                raise InputError(self._wrong_count(number, len(cells), count))
        first = [cell.strip() for cell in rows[0][1]]
        named = any(
            isinstance(c, str)
            for c in (*(self.columns or ()), self.tag_column, self.language_column)
        )
        from_name = pair_from_file_name(Path(self.path).name)
        header_columns = self._header_languages(first, from_name)
        header = named or header_columns is not None
        sample = [cells for _, cells in (rows[1:] if header else rows)]

        language_column = self._index(self.language_column, first, "language_column")
        if language_column is None and self.source_lang is None and header_columns is None:
            language_column = self._find_language_column(sample, count)
        tag_column = self._index(self.tag_column, first, "tag_column")
        if self.tags is not None and tag_column is None:
            tag_column = self._find_tag_column(sample, count)
        source, target = self._text_columns(
            first, sample, count, header_columns, {language_column, tag_column}
        )
        languages: tuple[str, str] | None = None
        if language_column is None:
            if self.source_lang is not None and self.target_lang is not None:
                languages = (self.source_lang, self.target_lang)
            elif header_columns is not None:
                languages = (
                    spell_code(first[source], f"{self.path}, line 1"),
                    spell_code(first[target], f"{self.path}, line 1"),
                )
            elif from_name is not None:
                languages = check_pair(*from_name, str(self.path))
            else:
                raise InputError(
                    f"{self.path}: its languages are not known; name the file like 'en-de.tsv', "
                    f"begin it with a header line 'en<TAB>de', or give languages='en-de'"
                )
        return _Layout(count, source, target, languages, language_column, tag_column, header)

    def _header_languages(
        self, first: list[str], from_name: tuple[str, str] | None
    ) -> tuple[int, int] | None:
        """The two columns whose names are language codes, if the first line is such a header.

        A first line of data can look the same ("no<TAB>ja"): where the languages are also known
        otherwise, only a line naming exactly those is a header. More than two codes ("id" is one
        too) leave it open which are meant, unless `columns` says so.
        """
        known = from_name
        if self.source_lang is not None and self.target_lang is not None:
            known = (self.source_lang, self.target_lang)
        codes = [(i, spell_code(c)) for i, c in enumerate(first) if is_known(c)]
        if self.columns is not None:
            codes = [
                (i, code) for i, code in codes if i in self.columns or first[i] in self.columns
            ]
        elif known is not None:
            codes = [(i, code) for i, code in codes if code in known]
        if len(codes) != 2 or codes[0][1] == codes[1][1]:
            return None
        if known is not None and {codes[0][1], codes[1][1]} != set(known):
            return None
        return codes[0][0], codes[1][0]

    def _index(self, column: int | str | None, first: list[str], argument: str) -> int | None:
        if column is None:
            return None
        if isinstance(column, str):
            if column not in first:
                raise InputError(
                    f"{self.path}, line 1: {argument} {column!r} is not in the header; it has "
                    f"{', '.join(map(repr, first))}"
                )
            return first.index(column)
        if not 0 <= column < len(first):
            raise InputError(
                f"{self.path}: {argument} {column} does not exist; the file has {len(first)} "
                f"columns, counted from 0"
            )
        return column

    @staticmethod
    def _find_language_column(sample: list[list[str]], count: int) -> int | None:
        """The one column beyond the texts whose every value is like ``de-fr``."""
        if count < 3 or not sample:
            return None
        found = [
            column
            for column in range(count)
            if all(parse_pair(cells[column]) is not None for cells in sample)
        ]
        return found[0] if len(found) == 1 else None

    def _find_tag_column(self, sample: list[list[str]], count: int) -> int | None:
        """The column with the most values among `tags`; a file of two columns has none."""
        if count < 3:
            return None
        tags = set(self.tags or ())
        hits = [sum(cells[column] in tags for cells in sample) for column in range(count)]
        best = max(range(count), key=hits.__getitem__)
        if hits[best] == 0:
            raise InputError(
                f"{self.path}: none of the tags {', '.join(sorted(tags))} is in its first "
                f"{len(sample)} lines; give tag_column=, the index of the column of tags"
            )
        return best

    def _text_columns(
        self,
        first: list[str],
        sample: list[list[str]],
        count: int,
        header_columns: tuple[int, int] | None,
        taken: set[int | None],
    ) -> tuple[int, int]:
        if self.columns is not None:
            a = self._index(self.columns[0], first, "columns")
            b = self._index(self.columns[1], first, "columns")
            assert a is not None
            assert b is not None
            return a, b
        if header_columns is not None:
            if self.source_lang is not None and first:
                by_code = {spell_code(first[i]): i for i in header_columns}
                return by_code[self.source_lang], by_code[str(self.target_lang)]
            return header_columns
        free = [column for column in range(count) if column not in taken]
        if len(free) > 2:
            free = [
                column
                for column in free
                if not all(_LABEL.fullmatch(cells[column]) for cells in sample)
            ]
        if len(free) != 2:
            raise InputError(
                f"{self.path}: has {count} columns and it is not clear which two are the text; "
                f"give columns=, for example columns=(0, 1)"
            )
        return free[0], free[1]
