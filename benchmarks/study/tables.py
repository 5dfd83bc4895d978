"""The tables of the document, written from the rows' JSONs between markers.

``<!-- study: NAME -->`` begins the table NAME of all rows that belong to it,
``<!-- study: NAME languages SET -->`` that of their scores on SET by language; ``<!-- /study -->``
ends either. What is between them is replaced; all else is left as it is.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from study.config import Places, Row

_PART = re.compile(
    r"(?P<begin><!-- study: (?P<table>[\w-]+)(?: languages (?P<set>[\w-]+))? -->\n)"
    r".*?(?P<end><!-- /study -->)",
    re.DOTALL,
)
# Collections and their columns; the first two are what is tuned by.
SETS = {
    "held-out": "held-out",
    "news": "news",
    "tatoeba": "Tatoeba",
    "flores200_devtest": "FLORES",
    "sib200": "SIB-200",
    "stsb": "STS-B",
}
NONE = "No row of this table has been run."


@dataclass(frozen=True)
class Line:
    """The rows of one label: the same but for the seed."""

    label: str
    runs: list[dict[str, Any]]

    def mean(self, value: Callable[[dict[str, Any]], Any]) -> float | None:
        """Over the runs that have the value."""
        found = [v for v in map(value, self.runs) if v is not None]
        return fmean(found) if found else None

    def spread(self, value: Callable[[dict[str, Any]], Any]) -> float:
        """From the least to the most."""
        found = [v for v in map(value, self.runs) if v is not None]
        return max(found) - min(found) if found else 0.0


def write_tables(document: Path, rows: Sequence[Row], places: Places) -> bool:
    """Write the tables again; whether that changed anything."""
    before = document.read_text(encoding="utf-8")
    names = {table for row in rows for table in row.tables}

    def replaced(part: re.Match[str]) -> str:
        if part["table"] not in names:
            raise ValueError(
                f"{document}: has a table {part['table']!r}, expected one of "
                f"{', '.join(sorted(names))}"
            )
        lines = _lines([row for row in rows if part["table"] in row.tables], places)
        table = _by_language(lines, part["set"]) if part["set"] else _scores(lines)
        return f"{part['begin']}{table}\n{part['end']}"

    after = _PART.sub(replaced, before)
    if after != before:
        document.write_text(after, encoding="utf-8")
    return after != before


def _lines(rows: Iterable[Row], places: Places) -> list[Line]:
    """In the order of the rows; labels without a result are left out.

    The first coordinates of a row's embeddings have a line each, below its own.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        path = places.result(row)
        if path.exists():
            document = json.loads(path.read_text(encoding="utf-8"))
            figures = document["figures"]
            found.setdefault(row.label, []).append(figures)
            for width in row.narrow:
                run = {**figures, "scores": figures["narrow"][str(width)]}
                label = f"{row.label}, the first {width} coordinates"
                found.setdefault(label, []).append(run)
    return [Line(label, runs) for label, runs in found.items()]


def _scores(lines: Sequence[Line]) -> str:
    if not lines:
        return NONE
    means = [[line.mean(_score_of(name)) for name in SETS] for line in lines]
    # A column that no line has is left out: news, where all have it in their text.
    shown = [i for i in range(len(SETS)) if any(row[i] is not None for row in means)]
    header = ["", "seeds", "minutes", "pairs seen", "pairs/s", "MB"]
    header += [[*SETS.values()][i] for i in shown]
    cells = []
    for line, row in zip(lines, means, strict=True):
        pairs = line.mean(lambda run: run["pairs"]) or 0
        cells.append(
            [
                line.label,
                str(len(line.runs)),
                f"{line.mean(lambda run: run['minutes']):.1f}",
                f"{pairs / 1e6:.2f} M",
                f"{line.mean(lambda run: run['pairs_per_second']):,.0f}",
                f"{line.mean(lambda run: run['peak_memory_mb']):,.0f}",
            ]
            + [_cell(row[i], line.spread(_score_of([*SETS][i]))) for i in shown]
        )
    return _markdown(header, cells)


def _by_language(lines: Sequence[Line], name: str) -> str:
    languages = sorted(
        {
            language
            for line in lines
            for run in line.runs
            for language in run["scores"].get(name, {}).get("languages", {})
        }
    )
    if not languages:
        return NONE
    cells = [
        [line.label]
        + [_cell(line.mean(_score_of(name, language)), digits=0) for language in languages]
        for line in lines
    ]
    return _markdown([SETS.get(name, name), *languages], cells)


def _score_of(name: str, language: str | None = None) -> Callable[[dict[str, Any]], float | None]:
    def value(run: dict[str, Any]) -> float | None:
        found = run["scores"].get(name)
        if found is None:
            return None
        score: float | None = (
            found["mean"] if language is None else found["languages"].get(language)
        )
        return score

    return value


def _cell(value: float | None, spread: float = 0.0, digits: int = 1) -> str:
    """The mean; of several seeds also half of the way from the least to the most."""
    if value is None:
        return ""
    return f"{value:.{digits}f}" + (f" ± {spread / 2:.1f}" if spread else "")


def _markdown(header: Sequence[str], cells: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
