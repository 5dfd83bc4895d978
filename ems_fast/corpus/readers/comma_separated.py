"""CSV with a header line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass

from ems_fast.corpus.readers.base import RawPair
from ems_fast.corpus.readers.records import RecordReader
from ems_fast.errors import InputError
from ems_fast.files.streams import read_lines


@dataclass(frozen=True)
class Csv(RecordReader):
    """A .csv file with a header line, plain or compressed, UTF-8; quoted as in RFC 4180.

    Fields are separated by commas, or by semicolons where the header has more of those. Two
    columns are the text: those named in `columns`, those called by the languages (``en,de``), usual
    names such as ``source`` and ``target``, or the only two. The languages come from the
    arguments, the columns' names or the file's name. Blank lines are skipped.

    Args:
        path: the file.
        source_lang: language of the first text.
        target_lang: language of the second text.
        columns: the names of the two columns of text.
    """

    def _fields(self) -> list[str]:
        header = next(self._rows(), None)
        if header is None:
            raise InputError(f"{self.path}: has only blank lines, expected a header line")
        return header[1]

    def _rows(self) -> Iterator[tuple[int, list[str]]]:
        """The line that each row begins at, and its cells; the header comes first."""
        lines = read_lines(self.location)
        first = next((line for line in lines if line[1].strip()), None)
        if first is None:
            return
        delimiter = ";" if first[1].count(";") > first[1].count(",") else ","
        # Rows are cut where text is quoted over several lines, so they need the line ends.
        texts = (f"{text}\n" for _, text in lines)
        rows = csv.reader(texts, delimiter=delimiter, strict=True)
        start = -1  # of the header line
        try:
            yield first[0], next(csv.reader([first[1]], delimiter=delimiter), [])
            start = 0
            for cells in rows:
                if cells:
                    yield first[0] + start + 1, cells
                start = rows.line_num
        except csv.Error as error:
            raise InputError(
                f"{self.path}, line {first[0] + start + 1}: is not CSV ({error}); a quote that is "
                "not closed, or one inside of a cell that is not doubled?"
            ) from error

    def __iter__(self) -> Iterator[RawPair]:
        """The pairs in the order of the file."""
        layout = self._layout
        source_lang, target_lang = layout.languages
        rows = self._rows()
        _, header = next(rows)
        columns, first, second = (
            len(header),
            header.index(layout.source),
            header.index(layout.target),
        )
        for number, cells in rows:
            if len(cells) != columns:
                raise InputError(
                    f"{self.path}, line {number}: has {len(cells)} cells, but the header has "
                    f"{columns}"
                )
            yield RawPair(cells[first], cells[second], source_lang, target_lang, number)
