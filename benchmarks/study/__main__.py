"""``python -m study [ROW ...]``, in this folder's parent: run rows, write the tables."""

from __future__ import annotations

import argparse
import dataclasses
import fnmatch
import sys
from collections.abc import Sequence
from pathlib import Path

from study.config import Places, Row
from study.rows import ROWS
from study.run import run_rows
from study.tables import write_tables

ROOT = Path(__file__).resolve().parents[2]


def main(arguments: Sequence[str] | None = None, rows: Sequence[Row] = ROWS) -> int:
    """The exit code: 1 if a row failed, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m study", description=__doc__)
    parser.add_argument(
        "rows", nargs="*", metavar="ROW",
        help="a row's name, a pattern such as 'st-*', or a table's name; none stands for all",
    )  # fmt: skip
    parser.add_argument("--list", action="store_true", help="show the rows and what is done")
    parser.add_argument("--tables", action="store_true", help="write the tables and run nothing")
    parser.add_argument("--minutes", type=float, help="of every row: to try out, with --results")
    parser.add_argument("--keep-runs", action="store_true", help="leave the run folders in --work")
    for name, default, text in (
        ("shared", ROOT.parent / "shared", "holds corpora/train and corpora/eval"),
        ("work", ROOT / "runs" / "study", "prepared corpora and runs"),
        ("results", ROOT / "benchmarks" / "results" / "quality", "a JSON for each row"),
        ("document", ROOT / "docs" / "quality.md", "whose tables are written"),
    ):
        parser.add_argument(f"--{name}", type=Path, default=default, help=f"{text} ({default})")
    given = parser.parse_args(arguments)
    if given.minutes is not None and given.results == parser.get_default("results"):
        parser.error(
            "--minutes: the study's own results have the rows' own minutes; give --results"
        )
    places = Places(given.shared, given.work, given.results, given.document, given.keep_runs)
    chosen = _choose(rows, given.rows, parser)
    if given.minutes is not None:
        chosen = [dataclasses.replace(row, minutes=given.minutes, pairs=None) for row in chosen]
    if given.list:
        for row in chosen:
            done = "done" if places.result(row).exists() else "    "
            limit = f"{row.minutes:g} min" if row.minutes is not None else f"{row.pairs:,} pairs"
            print(f"{done} {row.table:12} {row.name:32} {limit:>16}  {row.label}")
        waiting = [row for row in chosen if not places.result(row).exists()]
        minutes = sum(row.minutes or 0 for row in waiting)
        print(f"{len(waiting)} of {len(chosen)} rows to run, {minutes / 60:.1f} hours of training")
        return 0
    try:
        failed = [] if given.tables else run_rows(chosen, places)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with this row", file=sys.stderr)
        return 130
    # Results elsewhere are trials, and the document is not about those.
    trial = given.results != parser.get_default("results")
    if trial and given.document == parser.get_default("document"):
        return _end(failed)
    if write_tables(places.document, rows, places):
        print(f"{places.document}: tables written")
    return _end(failed)


def _end(failed: Sequence[str]) -> int:
    if failed:
        print(f"failed: {' '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _choose(
    rows: Sequence[Row], patterns: Sequence[str], parser: argparse.ArgumentParser
) -> list[Row]:
    chosen: dict[str, Row] = {}
    for pattern in patterns or ["*"]:
        found = [r for r in rows if fnmatch.fnmatchcase(r.name, pattern) or r.table == pattern]
        if not found:
            parser.error(f"ROW: {pattern!r} is no row, table or pattern; --list shows them")
        chosen |= {row.name: row for row in found}
    return [row for row in rows if row.name in chosen]


if __name__ == "__main__":
    sys.exit(main())
