"""What results on many sets share: averages by collection, table, Markdown and JSON."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from statistics import fmean
from typing import Any, Generic, TypeVar

from ems_fast.evaluation.table import Table


@dataclass(frozen=True)
class Row:
    """The result on one set: text, a number of sentences ``n`` and figures from 0 to 1."""

    name: str


R = TypeVar("R", bound=Row)


@dataclass(frozen=True)
class Results(ABC, Generic[R]):
    """One row a set; subclasses say how a row is shown."""

    rows: tuple[R, ...]

    def averages(self) -> tuple[R, ...]:
        """The unweighted mean over the sets of each collection; `n` is the sum."""
        groups: dict[str, list[R]] = {}
        for row in self._averaged():
            groups.setdefault(row.name, []).append(row)
        return tuple(map(_average, groups.values()))

    def to_table(self) -> str:
        """Aligned text for a terminal, figures times 100."""
        return self._table().to_text()

    def to_markdown(self) -> str:
        """A Markdown table, figures times 100."""
        return self._table().to_markdown()

    def to_json(self) -> str:
        """A JSON object with the fields, and the averages."""
        averages = [asdict(row) for row in self.averages()]
        return json.dumps(asdict(self) | {"averages": averages}, ensure_ascii=False, indent=2)

    def _averaged(self) -> Sequence[R]:
        """The rows that count for the averages."""
        return self.rows

    @abstractmethod
    def _header(self) -> tuple[str, ...]:
        """The names of the columns."""

    @abstractmethod
    def _cells(self, row: R) -> tuple[str, ...]:
        """A row as it is shown, a cell a column."""

    def _table(self) -> Table:
        rows, averages = (list(map(self._cells, part)) for part in (self.rows, self.averages()))
        return Table(self._header(), rows, averages, labels=2)


def _average(rows: Sequence[R]) -> R:
    values = {f.name: [getattr(row, f.name) for row in rows] for f in fields(rows[0])}
    means = {name: _mean(column) for name, column in values.items()}
    return replace(rows[0], **means | {"name": rows[0].name, "n": sum(values["n"])})


def _mean(values: Sequence[Any]) -> Any:
    """Of numbers, or of tuples item by item; an average has no text."""
    there = [value for value in values if value is not None]
    if not there:
        return None
    if isinstance(there[0], str):
        return ""
    if isinstance(there[0], tuple):
        return tuple(map(fmean, zip(*there, strict=True)))
    return fmean(there)
