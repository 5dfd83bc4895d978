"""The tests of a pair, cheapest first; a pair is dropped by the first that it fails."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ems_fast.corpus.cleaning import reason_to_drop, tidy
from ems_fast.corpus.hashing import text_key
from ems_fast.corpus.readers import RawPair
from ems_fast.encoding.protocol import Encodes
from ems_fast.filtering.duplicates import NearDuplicates
from ems_fast.filtering.language import LanguageIdentifier
from ems_fast.filtering.scoring import length_deviations, score_pool


@dataclass(frozen=True)
class Criteria:
    """Which tests there are; those of `ems_fast.filter_pairs`."""

    min_score: float | None
    min_margin: float | None
    max_length: float | None
    identify: bool
    near_duplicates: bool


class Verdict(NamedTuple):
    """What became of a pair.

    Attributes:
        source: its text, tidy.
        target: the other.
        reason: the test that it failed; None for a pair to keep.
        cosine: of the two vectors; None if it fell before they were made.
        margin: the cosine against those of the neighbours.
    """

    source: str
    target: str
    reason: str | None
    cosine: float | None = None
    margin: float | None = None


class PairJudge:
    """Judges pairs, pool by pool.

    Raises:
        BackendError: a test is asked for whose library is missing.
    """

    def __init__(self, encoder: Encodes, criteria: Criteria):
        self.criteria = criteria
        self._encoder = encoder
        self._identifier = LanguageIdentifier() if criteria.identify else None
        self._duplicates = NearDuplicates() if criteria.near_duplicates else None

    def remember(self, kept: Iterable[tuple[str, str]]) -> None:
        """Take pairs for kept that an earlier call has judged."""
        if self._duplicates is not None:
            for source, target in kept:
                self._duplicates.add(text_key(source), text_key(target))

    def judge(self, pool: Sequence[RawPair]) -> list[Verdict]:
        """One verdict a pair, in their order."""
        verdicts: list[Verdict] = []
        for pair in pool:
            source, target = tidy(pair.source), tidy(pair.target)
            reason = reason_to_drop(source, target, text_key(source), text_key(target))
            verdicts.append(Verdict(source, target, reason))
        self._judge_length(pool, verdicts)
        left = [row for row, verdict in enumerate(verdicts) if verdict.reason is None]
        if not left:
            return verdicts
        sides = [[verdicts[row][side] for row in left] for side in (0, 1)]
        cosines, margins = score_pool(self._encoder, sides[0], sides[1])  # type: ignore[arg-type]
        for row, cosine, margin in zip(left, cosines.tolist(), margins.tolist(), strict=True):
            judged = verdicts[row]._replace(cosine=cosine, margin=margin)
            verdicts[row] = judged._replace(reason=self._reason(pool[row], judged))
        return verdicts

    def _judge_length(self, pool: Sequence[RawPair], verdicts: list[Verdict]) -> None:
        if self.criteria.max_length is None:
            return
        left = [row for row, verdict in enumerate(verdicts) if verdict.reason is None]
        deviations = length_deviations(
            [verdicts[row].source for row in left],
            [verdicts[row].target for row in left],
            [(pool[row].source_lang, pool[row].target_lang) for row in left],
        )
        for row in np.flatnonzero(deviations > self.criteria.max_length).tolist():
            verdicts[left[row]] = verdicts[left[row]]._replace(reason="length")

    def _reason(self, pair: RawPair, verdict: Verdict) -> str | None:
        """Why a pair with its scores is dropped."""
        criteria = self.criteria
        assert verdict.cosine is not None
        assert verdict.margin is not None
        if criteria.min_score is not None and verdict.cosine < criteria.min_score:
            return "score"
        if criteria.min_margin is not None and verdict.margin < criteria.min_margin:
            return "margin"
        if self._identifier is not None and (
            self._identifier.is_other(verdict.source, pair.source_lang)
            or self._identifier.is_other(verdict.target, pair.target_lang)
        ):
            return "language"
        if self._duplicates is not None and not self._duplicates.add(
            text_key(verdict.source), text_key(verdict.target)
        ):
            return "near_duplicate"
        return None
