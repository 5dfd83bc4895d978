"""What became of every pair that was read: the counts kept in corpus.json, and their table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from ems_fast.text.table import aligned

# Why a pair is dropped, in the order in which the reasons are tried.
REASONS = (
    "empty",
    "identical",
    "control_characters",
    "length_ratio",
    "too_many_characters",
    "duplicate",
    "held_out_overlap",
    "too_many_tokens",
)


@dataclass
class InputReport:
    """One input file: ``read == kept + held_out + sum(dropped.values())``."""

    name: str
    read: int = 0
    kept: int = 0
    held_out: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


@dataclass
class CorpusReport:
    """What was read, kept and dropped, per input file, with notes on anything unusual."""

    inputs: list[InputReport] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def count(self, outcome: str, inputs: npt.NDArray[Any]) -> None:
        """Note that n pairs, by the index of the input of each [n], are dropped or kept.

        The outcome is ``kept``, ``held_out``, or the reason of `REASONS` that they are dropped for.
        """
        numbers = np.bincount(inputs, minlength=len(self.inputs)).tolist()
        for entry, number in zip(self.inputs, numbers, strict=True):
            if outcome in REASONS:
                entry.dropped[outcome] += number
            else:
                setattr(entry, outcome, getattr(entry, outcome) + number)

    def to_json(self) -> dict[str, Any]:
        """As plain data, reasons in their fixed order."""
        inputs = [
            vars(entry) | {"dropped": {reason: entry.dropped[reason] for reason in REASONS}}
            for entry in self.inputs
        ]
        return {"inputs": inputs, "notes": self.notes}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> CorpusReport:
        """The inverse of `to_json`; what else `data` holds is left alone."""
        inputs = [
            InputReport(**entry | {"dropped": Counter(entry["dropped"])})
            for entry in data["inputs"]
        ]
        return cls(inputs, data["notes"])

    @property
    def total(self) -> InputReport:
        """The sum over the inputs."""
        total = InputReport("total")
        for entry in self.inputs:
            total.read += entry.read
            total.kept += entry.kept
            total.held_out += entry.held_out
            total.dropped.update(entry.dropped)
        return total


def summarise(report: CorpusReport) -> str:
    """One clause: ``of 3 pairs read were dropped: 2 as identical, 1 as empty``."""
    total = report.total
    causes = [f"{total.dropped[r]:,} as {r.replace('_', ' ')}" for r in REASONS if total.dropped[r]]
    return f"of {total.read:,} pairs read were dropped: {', '.join(causes) or 'none'}"


def format_report(report: CorpusReport) -> str:
    """A readable table: a row an input file, a column each reason that occurred, then the notes."""
    total = report.total
    reasons = [reason for reason in REASONS if total.dropped[reason]]

    def cells(entry: InputReport) -> list[str]:
        dropped = (entry.dropped[reason] for reason in reasons)
        numbers = (entry.read, entry.kept, entry.held_out, *dropped)
        return [_shorten(entry.name), *(f"{number:,}" for number in numbers)]

    header = ["input", "read", "kept", "held out", *(r.replace("_", " ") for r in reasons)]
    totals = [[cells(total)]] if len(report.inputs) > 1 else []
    table = aligned([[header], [cells(entry) for entry in report.inputs], *totals])
    return "\n".join([table, *(f"note: {note}" for note in report.notes)])


def _shorten(name: str, width: int = 48) -> str:
    """The end of a long path, which is what tells inputs apart."""
    return name if len(name) <= width else "…" + name[-(width - 1) :]
