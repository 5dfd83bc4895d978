"""Scores on the way: retrieval accuracy on held-out pairs and on evaluation sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ems_fast.corpus import BinaryCorpus
from ems_fast.encoding import SentenceEncoder
from ems_fast.evaluation import EvalSet, Evaluation, evaluate

HELD_OUT = "held-out"


@dataclass(frozen=True)
class Scores:
    """One evaluation.

    Attributes:
        by_collection: the held-out pairs' evaluation under ``held-out``, the sets' under theirs.
    """

    by_collection: dict[str, Evaluation]

    @property
    def held_out(self) -> float:
        """What models are compared by: accuracy on held-out pairs, else on the first sets."""
        averages = self.averages()
        return averages.get(HELD_OUT, next(iter(averages.values()), 0.0))

    def averages(self) -> dict[str, float]:
        """Mean accuracy of both directions, averaged over the sets of each collection."""
        return {name: evaluation.mean for name, evaluation in self.by_collection.items()}

    def summary(self) -> str:
        """One line."""
        if not self.by_collection:
            return "no held-out pairs to score"
        return ", ".join(
            f"{name} {100 * value:.1f} %" for name, value in self.averages().items()
        )

    def to_json(self) -> dict[str, Any]:
        """For ``metrics.jsonl``: averages and every row."""
        return {
            "accuracy": self.averages(),
            "rows": {
                name: {row.name: row.mean for row in evaluation.rows}
                for name, evaluation in self.by_collection.items()
            },
        }


class Validator:
    """Scores an encoder on held-out pairs of the corpus and on evaluation sets.

    Args:
        corpus: with its held-out pairs.
        eval_sets: further sets.
        valid_pairs: held-out pairs of each language pair that count.
    """

    def __init__(self, corpus: BinaryCorpus, eval_sets: Sequence[EvalSet], valid_pairs: int):
        self._collections: dict[str, list[EvalSet]] = {}
        held_out = held_out_sets(corpus, valid_pairs)
        if held_out:
            self._collections[HELD_OUT] = held_out
        if eval_sets:
            self._collections["evaluation sets"] = list(eval_sets)
        self.last_averages: dict[str, float] = {}

    def score(self, encoder: SentenceEncoder) -> Scores:
        """Score `encoder` now."""
        scores = Scores(
            {name: evaluate(encoder, sets) for name, sets in self._collections.items()}
        )
        self.last_averages = scores.averages()
        return scores


def held_out_sets(corpus: BinaryCorpus, most: int) -> list[EvalSet]:
    """The first `most` held-out pairs of every language pair that has at least two."""
    sets = []
    for shard in corpus.shards:
        pairs = shard.valid_pairs()[:most]
        if len(pairs) >= 2:
            source, target = zip(*pairs, strict=True)
            name = f"{shard.source}-{shard.target}"
            sets.append(EvalSet(name, shard.source, shard.target, list(source), list(target)))
    return sets
