"""JSON Lines: an object a line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ems_fast.corpus.readers.base import RawPair
from ems_fast.corpus.readers.records import RecordReader, check_text, text_fields
from ems_fast.errors import InputError
from ems_fast.files.streams import read_lines


@dataclass(frozen=True)
class JsonLines(RecordReader):
    """A .jsonl or .ndjson file, plain or compressed, an object a line, UTF-8.

    Two fields of each object are the text: those named in `columns`, those called by the languages
    (``en`` and ``de``, also inside another field, as in ``{"translation": {"en": …, "de": …}}``),
    usual names such as ``source`` and ``target``, or the only two. The languages come from the
    arguments, the fields' names or the file's name. Blank lines are skipped, null is no text.

    Args:
        path: the file.
        source_lang: language of the first text.
        target_lang: language of the second text.
        columns: the two fields of text; ``translation.en`` is a field inside another.
    """

    def _fields(self) -> list[str]:
        for _, record in self._records():
            return text_fields(record)
        raise InputError(f"{self.path}: has no objects, only blank lines")

    def _records(self) -> Iterator[tuple[int, dict[str, Any]]]:
        scan = json.JSONDecoder().decode
        for number, line in read_lines(self.location):
            if not line or line.isspace():
                continue
            try:
                record = scan(line)
            except (ValueError, RecursionError) as error:
                deep = isinstance(error, RecursionError)
                reason = "nested too deep" if deep else getattr(error, "msg", error)
                raise InputError(f"{self.path}, line {number}: is not JSON ({reason})") from error
            if not isinstance(record, dict):
                raise InputError(
                    f"{self.path}, line {number}: is a {type(record).__name__}, expected an object"
                )
            yield number, record

    def __iter__(self) -> Iterator[RawPair]:
        """The pairs in the order of the file."""
        first, second = self._layout.source, self._layout.target
        source_lang, target_lang = self._layout.languages
        for number, record in self._records():
            source, target = record.get(first), record.get(second)
            if not (isinstance(source, str) and isinstance(target, str)):
                source, target = (self._text(record, number, at) for at in (first, second))
            yield RawPair(source, target, source_lang, target_lang, number)

    def _text(self, record: dict[str, Any], number: int, column: str) -> str:
        """The text of a field that may be inside others, or null."""
        value: Any = record
        for part in [column] if column in record else column.split("."):
            if not isinstance(value, dict) or part not in value:
                raise InputError(f"{self.path}, line {number}: has no field {column!r}")
            value = value[part]
        return check_text(value, self.name, number, column)
