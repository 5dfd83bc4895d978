"""Scores on the way: retrieval accuracy on held-out pairs and on evaluation sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ems_fast.corpus import BinaryCorpus
from ems_fast.encoding.encoder import SentenceEncoder
from ems_fast.evaluation import EvalSet, Evaluation, evaluate

HELD_OUT = "held-out"


@dataclass(frozen=True)
class Scores:
    """One evaluation; None where there is nothing to score on."""

    evaluation: Evaluation | None

    def averages(self) -> dict[str, float]:
        """Accuracy of both directions, averaged over the sets of each collection."""
        if self.evaluation is None:
            return {}
        return {row.name: row.mean for row in self.evaluation.averages()}

    @property
    def criterion(self) -> float:
        """What models are compared by: accuracy on held-out pairs, else on the first collection."""
        averages = self.averages()
        return averages.get(HELD_OUT, next(iter(averages.values()), 0.0))

    def summary(self) -> str:
        """One line."""
        found = [f"{name} {100 * value:.1f} %" for name, value in self.averages().items()]
        return ", ".join(found) or "no held-out pairs to score"

    def to_json(self) -> dict[str, Any]:
        """For ``metrics.jsonl``: averages and every row."""
        rows = self.evaluation.rows if self.evaluation else ()
        return {
            "accuracy": self.averages(),
            "rows": [
                {
                    "set": row.name,
                    "languages": f"{row.source_lang}-{row.target_lang}",
                    "accuracy": row.mean,
                }
                for row in rows
            ],
        }


class Validator:
    """Scores an encoder on held-out pairs of the corpus and on evaluation sets.

    Args:
        corpus: with its held-out pairs.
        eval_sets: further sets.
        valid_pairs: held-out pairs of each language pair that count.
    """

    def __init__(self, corpus: BinaryCorpus, eval_sets: Sequence[EvalSet], valid_pairs: int):
        self._sets = [*held_out_sets(corpus, valid_pairs), *eval_sets]
        self.last = Scores(None)

    def score(self, encoder: SentenceEncoder) -> Scores:
        """Score `encoder` now."""
        self.last = Scores(evaluate(encoder, self._sets) if self._sets else None)
        return self.last


def held_out_sets(corpus: BinaryCorpus, most: int) -> list[EvalSet]:
    """The first `most` held-out pairs of every language pair that has at least two."""
    sets = []
    for shard in corpus.shards:
        pairs = shard.valid_pairs()[:most]
        if len(pairs) >= 2:
            source, target = zip(*pairs, strict=True)
            sets.append(EvalSet(HELD_OUT, shard.source, shard.target, source, target))
    return sets
