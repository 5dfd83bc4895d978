"""What results on many sets share: averages by collection, table, Markdown and JSON."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from statistics import fmean
from typing import Any, Generic, TypeVar

from ems_fast.text.markdown import plain_markdown
from ems_fast.text.table import aligned

LABELS = 2  # columns, from the left, that hold words; the others hold numbers


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
        blocks = [[self._header()], self._shown(self.rows), self._shown(self.averages())]
        return aligned(blocks, labels=LABELS)

    def to_markdown(self) -> str:
        """A Markdown table, figures times 100 and averages in bold."""
        header, *lines = (
            [plain_markdown(cell) for cell in line]
            for line in (self._header(), *self._shown(self.rows))
        )
        for line in self._shown(self.averages()):
            lines.append([f"**{plain_markdown(cell)}**" if cell else cell for cell in line])
        text = [f"| {' | '.join(line)} |" for line in (header, *lines)]
        rule = "|".join(["---"] * LABELS + ["---:"] * (len(header) - LABELS))
        return "\n".join([text[0], f"|{rule}|", *text[1:]])

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

    def _shown(self, rows: Sequence[R]) -> list[tuple[str, ...]]:
        return [self._cells(row) for row in rows]


def percent(share: float) -> str:
    """A share from 0 to 1 in percent, with one decimal."""
    return f"{100 * share:.1f}"


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
