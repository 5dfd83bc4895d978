"""Tables of results, for terminals and in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ems_fast.text.markdown import plain_markdown

Cells = Sequence[str]


@dataclass(frozen=True)
class Table:
    """Rows of text under a header, and averages below a rule.

    Attributes:
        header: one title a column.
        rows: one cell a column.
        averages: the same, set apart.
        labels: number of columns, from the left, that hold words; the others hold numbers.
    """

    header: Cells
    rows: Sequence[Cells]
    averages: Sequence[Cells]
    labels: int

    def to_text(self) -> str:
        """Columns aligned by blanks."""
        lines = [self.header, *self.rows, *self.averages]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        text = [
            "  ".join(
                cell.ljust(width) if column < self.labels else cell.rjust(width)
                for column, (cell, width) in enumerate(zip(line, widths, strict=True))
            ).rstrip()
            for line in lines
        ]
        rule = "-" * max(map(len, text))
        below = 1 + len(self.rows)
        return "\n".join([text[0], rule, *text[1:below], rule, *text[below:]])

    def to_markdown(self) -> str:
        """A Markdown table, averages in bold."""
        header, rows, averages = (
            [[plain_markdown(cell) for cell in line] for line in part]
            for part in ([self.header], self.rows, self.averages)
        )
        bold = [[f"**{cell}**" if cell else cell for cell in line] for line in averages]
        text = [f"| {' | '.join(line)} |" for line in (*header, *rows, *bold)]
        rule = "|".join("---" if c < self.labels else "---:" for c in range(len(self.header)))
        return "\n".join([text[0], f"|{rule}|", *text[1:]])


def percent(share: float) -> str:
    """A share from 0 to 1 in percent, with one decimal."""
    return f"{100 * share:.1f}"
