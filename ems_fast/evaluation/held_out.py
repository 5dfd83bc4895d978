"""The held-out pairs of a corpus, as evaluation sets."""

from __future__ import annotations

from ems_fast.corpus import BinaryCorpus
from ems_fast.evaluation.sets import EvalSet

HELD_OUT = "held-out"


def held_out_sets(corpus: BinaryCorpus, most: int) -> list[EvalSet]:
    """The first `most` held-out pairs of every language pair that has at least two."""
    sets = []
    for shard in corpus.shards:
        pairs = shard.valid_pairs()[:most]
        if len(pairs) >= 2:
            source, target = zip(*pairs, strict=True)
            sets.append(EvalSet(HELD_OUT, shard.source, shard.target, source, target))
    return sets
