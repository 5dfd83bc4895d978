"""Scores on the way: retrieval accuracy on held-out pairs and on evaluation sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from ems_fast.encoding.encoder import SentenceEncoder
from ems_fast.evaluation import EvalSet, evaluate
from ems_fast.evaluation.held_out import HELD_OUT


@dataclass(frozen=True)
class Scores:
    """One evaluation; empty where there is nothing to score on.

    Attributes:
        averages: accuracy of both directions, averaged over the sets of each collection.
        rows: that of every set, as in ``metrics.jsonl``.
    """

    averages: dict[str, float] = field(default_factory=dict)
    rows: tuple[dict[str, Any], ...] = ()

    @property
    def criterion(self) -> float:
        """What models are compared by: accuracy on held-out pairs, else on the first collection."""
        return self.averages.get(HELD_OUT, next(iter(self.averages.values()), 0.0))

    def summary(self) -> str:
        """One line."""
        found = [f"{name} {100 * value:.1f} %" for name, value in self.averages.items()]
        return ", ".join(found) or "no held-out pairs to score"


def score(encoder: SentenceEncoder, sets: Sequence[EvalSet]) -> Scores:
    """Score `encoder` on `sets`."""
    if not sets:
        return Scores()
    found = evaluate(encoder, sets)
    rows = (
        {"set": row.name, "languages": f"{row.source_lang}-{row.target_lang}", "accuracy": row.mean}
        for row in found.rows
    )
    return Scores({row.name: row.mean for row in found.averages()}, tuple(rows))
