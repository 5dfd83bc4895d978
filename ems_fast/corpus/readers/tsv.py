"""Tab-separated text: a pair a line, languages given or found out."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property

from ems_fast.corpus.readers.base import FileReader, RawPair
from ems_fast.errors import InputError
from ems_fast.files.streams import read_lines
from ems_fast.text.languages import (
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
class Tsv(FileReader):
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
    """

    columns: Sequence[int] | Sequence[str] | None = field(default=None, kw_only=True)
    tag_column: int | str | None = field(default=None, kw_only=True)
    tags: Sequence[str] | None = field(default=None, kw_only=True)
    language_column: int | str | None = field(default=None, kw_only=True)

    def _check_beginning(self) -> None:
        _ = self._layout

    def __iter__(self) -> Iterator[RawPair]:
        """The pairs in the order of the file."""
        layout = self._layout
        tags = frozenset(self.tags or ())
        parse_languages = cache(parse_pair)
        source_lang, target_lang = layout.languages or ("", "")
        for number, line in itertools.islice(
            read_lines(self.location), 1 if layout.header else 0, None
        ):
            cells = line.split("\t")
            if len(cells) != layout.columns:
                if not line or line.isspace():
                    continue
                raise InputError(self._wrong_count(number, len(cells), layout.columns))
            if layout.tag_column is not None and cells[layout.tag_column] not in tags:
                continue
            if layout.language_column is not None:
                pair = parse_languages(cells[layout.language_column])
                if pair is None or pair[0] == pair[1]:
                    raise InputError(
                        f"{self.path}, line {number}: {cells[layout.language_column]!r} in the "
                        f"column of languages is not a pair of languages such as 'de-fr'"
                    )
                source_lang, target_lang = pair
            yield RawPair(
                cells[layout.source], cells[layout.target], source_lang, target_lang, number
            )

    def _wrong_count(self, number: int, actual: int, expected: int) -> str:
        return (
            f"{self.path}, line {number}: has {actual} tab-separated "
            f"{'column' if actual == 1 else 'columns'}, expected {expected}"
        )

    def _check_arguments(self) -> None:
        if self._given is not None and self.language_column is not None:
            raise InputError(
                f"{self.path}: languages are given twice, as {'-'.join(self._given)} and as "
                f"language_column={self.language_column!r}; give one of them"
            )
        if self.columns is not None and (len(self.columns) != 2 or len(set(self.columns)) != 2):
            raise InputError(
                f"{self.path}: columns must be two different columns, got {self.columns!r}"
            )
        if isinstance(self.tags, str):
            raise InputError(f"{self.path}: tags must be a list of strings, got {self.tags!r}")
        if self.tags is None and self.tag_column is not None:
            raise InputError(
                f"{self.path}: tag_column={self.tag_column!r} needs tags, those to keep"
            )

    @cached_property
    def _layout(self) -> _Layout:
        self._check_arguments()
        rows = [
            (number, line.split("\t"))
            for number, line in itertools.islice(read_lines(self.location), _SAMPLE_LINES)
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
        from_name = pair_from_file_name(self.location.name)
        by_language = self._header_languages(first, self._given or from_name)
        columns = (*(self.columns or ()), self.tag_column, self.language_column)
        header = bool(by_language) or any(isinstance(column, str) for column in columns)
        sample = [cells for _, cells in (rows[1:] if header else rows)]

        language_column = tag_column = None
        if self.language_column is not None:
            language_column = self._index("language_column", self.language_column, first)
        elif count > 2 and not self._given and not by_language:
            language_column = _find_languages(sample)
        if self.tag_column is not None:
            tag_column = self._index("tag_column", self.tag_column, first)
        elif count > 2 and self.tags is not None:
            tag_column = self._find_tags(sample, set(self.tags))
        text = [self._index("columns", column, first) for column in self.columns or ()]
        if not text and by_language:
            text = [by_language[code] for code in self._given or by_language]
        source, target = text or self._find_text(sample, count, {language_column, tag_column})
        languages: tuple[str, str] | None = None
        if language_column is None:
            if self._given is not None:
                languages = self._given
            elif by_language:
                languages = spell_code(first[source]), spell_code(first[target])
            elif from_name is not None:
                languages = check_pair(*from_name, str(self.path))
            else:
                raise InputError(
                    f"{self.path}: its languages are not known; name the file like 'en-de.tsv', "
                    f"begin it with a header line 'en<TAB>de', or give languages='en-de'"
                )
        return _Layout(count, source, target, languages, language_column, tag_column, header)

    def _header_languages(
        self, first: list[str], known: tuple[str, str] | None
    ) -> dict[str, int] | None:
        """The columns of two languages, if the first line is a header that names them.

        A first line of data can look the same ("no<TAB>ja"): where the languages are also known
        otherwise, only a line naming exactly those is a header. More than two codes ("id" is one
        too) leave it open which are meant, unless `columns` says so.
        """
        codes = [(spell_code(cell), i) for i, cell in enumerate(first) if is_known(cell)]
        if self.columns is not None:
            codes = [
                (code, i) for code, i in codes if i in self.columns or first[i] in self.columns
            ]
        elif known is not None:
            codes = [(code, i) for code, i in codes if code in known]
        found = dict(codes)
        if len(codes) != 2 or len(found) != 2 or (known is not None and found.keys() != set(known)):
            return None
        return found

    def _index(self, argument: str, column: int | str, first: list[str]) -> int:
        """The index of a column that was given by index or name."""
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

    def _find_tags(self, sample: list[list[str]], tags: set[str]) -> int:
        """The column with the most values among `tags`."""
        hits = [sum(cell in tags for cell in column) for column in zip(*sample, strict=True)]
        if not any(hits):
            raise InputError(
                f"{self.path}: none of the tags {', '.join(sorted(tags))} is in its first "
                f"{len(sample)} lines; give tag_column=, the index of the column of tags"
            )
        return hits.index(max(hits))

    def _find_text(self, sample: list[list[str]], count: int, taken: set[int | None]) -> list[int]:
        """The two columns that are neither taken nor of labels."""
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
        return free


def _find_languages(sample: list[list[str]]) -> int | None:
    """The one column whose every value is like ``de-fr``."""
    columns = enumerate(zip(*sample, strict=True))
    found = [index for index, column in columns if all(map(parse_pair, column))]
    return found[0] if len(found) == 1 else None
