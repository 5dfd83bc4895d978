"""What a filter did: how many pairs fell to which test, and what is at the threshold."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from typing import Any

from ems_fast.corpus.readers import RawPair
from ems_fast.filtering.judging import Verdict
from ems_fast.text.table import aligned

BINS = 22  # of cosines, from -0.1 to 1 in steps of 0.05
EXAMPLES = 5  # on each side of the threshold
_LOWEST, _STEP = -0.1, 0.05
_BAR = 40

Example = tuple[float, str, str]  # cosine, source, target


@dataclass
class Tally:
    """Counts, a histogram and examples, of a part of the pairs or of all.

    Attributes:
        read: pairs tested.
        kept: those that passed.
        dropped: how many fell to each test.
        histogram: pairs by cosine: those that were scored, and of these the kept ones.
        above: kept pairs nearest to the threshold of the score, nearest first.
        below: dropped pairs nearest to it.
    """

    read: int = 0
    kept: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    histogram: list[list[int]] = field(default_factory=lambda: [[0] * BINS, [0] * BINS])
    above: list[Example] = field(default_factory=list)
    below: list[Example] = field(default_factory=list)

    def add(self, pair: RawPair, verdict: Verdict, threshold: float | None) -> None:
        """Count a pair."""
        self.read += 1
        kept = verdict.reason is None
        if kept:
            self.kept += 1
        else:
            self._drop(verdict.reason or "", 1)
        if verdict.cosine is None:
            return
        cell = min(max(int((verdict.cosine - _LOWEST) / _STEP), 0), BINS - 1)
        self.histogram[0][cell] += 1
        self.histogram[1][cell] += kept
        if threshold is not None and (kept or verdict.reason == "score"):
            side = self.above if kept else self.below
            farthest = abs(side[-1][0] - threshold) if len(side) == EXAMPLES else float("inf")
            if abs(verdict.cosine - threshold) < farthest:
                side.append((verdict.cosine, verdict.source, verdict.target))
                self._trim(side, threshold)

    def merge(self, other: Tally, threshold: float | None) -> None:
        """Add the counts of another part."""
        self.read += other.read
        self.kept += other.kept
        for reason, count in other.dropped.items():
            self._drop(reason, count)
        for mine, theirs in zip(self.histogram, other.histogram, strict=True):
            mine[:] = [a + b for a, b in zip(mine, theirs, strict=True)]
        for side, more in ((self.above, other.above), (self.below, other.below)):
            side.extend(more)
            self._trim(side, threshold or 0.0)

    def _drop(self, reason: str, count: int) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + count

    @staticmethod
    def _trim(side: list[Example], threshold: float) -> None:
        side.sort(key=lambda example: abs(example[0] - threshold))
        del side[EXAMPLES:]

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Tally:
        """As `dataclasses.asdict` gave it, by way of a file."""
        fields = dict(content)
        for side in ("above", "below"):
            fields[side] = [(example[0], example[1], example[2]) for example in content[side]]
        return cls(**fields)


@dataclass(frozen=True)
class FilterReport:
    """What `filter_pairs` did.

    Attributes:
        output: the file that holds the pairs that were kept.
        read: pairs tested.
        kept: pairs in `output`.
        dropped: how many fell to each test, most first.
        resumed: pairs of these that an earlier, interrupted call had tested.
        criteria: the thresholds, and which tests there were.
        histogram: lower bounds of cosine, pairs of that cosine, those of them that passed.
        above: pairs that passed and are nearest to `min_score`: cosine, source, target.
        below: pairs that fell to it and are nearest.
    """

    output: str
    read: int
    kept: int
    dropped: dict[str, int]
    resumed: int
    criteria: dict[str, Any]
    histogram: list[tuple[float, int, int]]
    above: list[Example]
    below: list[Example]

    @classmethod
    def of(
        cls, output: str, tally: Tally, *, kept: int, resumed: int, criteria: dict[str, Any]
    ) -> FilterReport:
        """The report of a tally, of which `kept` pairs were written."""
        counts = {**tally.dropped, "top": tally.kept - kept}
        dropped = {name: n for name, n in sorted(counts.items(), key=lambda x: -x[1]) if n}
        histogram = [
            (round(_LOWEST + _STEP * i, 2), scored, passed)
            for i, (scored, passed) in enumerate(zip(*tally.histogram, strict=True))
        ]
        return cls(
            output, tally.read, kept, dropped, resumed, criteria, histogram, tally.above,
            tally.below,
        )  # fmt: skip

    def to_json(self) -> str:
        """Everything, as JSON."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False, indent=1)

    def to_text(self) -> str:
        """Tables for a terminal."""
        read = max(self.read, 1)
        counts = [("read", self.read), *self.dropped.items(), ("kept", self.kept)]
        rows = [[name, f"{count:,}", f"{100 * count / read:.1f}%"] for name, count in counts]
        parts = [aligned([rows[:1], rows[1:-1], rows[-1:]] if rows[1:-1] else [rows])]
        most = max((scored for _, scored, _ in self.histogram), default=0)
        if most:
            bars = [
                [f"{low:.2f}", f"{scored:,}", "#" * round(_BAR * passed / most)
                 + "." * round(_BAR * (scored - passed) / most)]
                for low, scored, passed in self.histogram
            ]  # fmt: skip
            lines = [f"{low:>6}  {count:>12}  {bar}".rstrip() for low, count, bar in bars]
            parts.append("cosines from (# kept, . dropped):\n" + "\n".join(lines))
        for title, examples in (("kept", self.above), ("dropped", self.below)):
            if examples:
                lines = [f"{score:6.3f}  {a}  |  {b}" for score, a, b in examples]
                parts.append(f"{title}, nearest to min_score:\n" + "\n".join(lines))
        return "\n\n".join(parts)
