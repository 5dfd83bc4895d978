"""Which pairs of neighbouring tokens a corpus has most often."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from ems_fast.corpus.binary import BinaryCorpus

# What is counted: bounds memory, and is enough to tell the frequent from the rare.
SAMPLE_TOKENS = 10_000_000
# Pairs of sentences that are read together.
_BLOCK = 1024

_Sentences = tuple[npt.NDArray[Any], npt.NDArray[np.int64], npt.NDArray[np.int64]]


def frequent_phrases(
    corpus: BinaryCorpus,
    most: int,
    *,
    least: int = 5,
    besides: npt.NDArray[np.int64] | None = None,
    languages: Collection[str] | None = None,
) -> npt.NDArray[np.int64]:
    """The `most` frequent pairs of neighbouring tokens, of those seen `least` times.

    Counted in a sample of the corpus, evenly over it, in which every sentence counts once; of all
    its languages, or of `languages` alone. Those of `besides` are passed over.

    Returns:
        int64 [K], K ≤ `most`, ascending: ``first * V + second`` of each.
    """
    blocks = list(_sample(corpus, languages))
    tokens, lengths, hashes = (np.concatenate(part) for part in zip(*blocks, strict=True))
    once = np.zeros(len(lengths), dtype=bool)
    once[np.unique(hashes, return_index=True)[1]] = True
    tokens, lengths = tokens[np.repeat(once, lengths)].astype(np.int64), lengths[once]
    keys = tokens[:-1] * corpus.vocab_size + tokens[1:]
    within = np.ones(len(keys), dtype=bool)
    within[np.cumsum(lengths)[:-1] - 1] = False  # from one sentence to the next
    found, counts = np.unique(keys[within], return_counts=True)
    wanted = counts >= least
    if besides is not None:
        wanted &= np.isin(found, besides, invert=True)
    found, counts = found[wanted], counts[wanted]
    chosen: npt.NDArray[np.int64] = np.sort(found[np.argsort(-counts, kind="stable")[:most]])
    return chosen


def _sample(corpus: BinaryCorpus, languages: Collection[str] | None) -> Iterator[_Sentences]:
    """Tokens [N], lengths [n] and hashes [n] of every so manieth block of a shard."""
    stride = max(1, round(corpus.num_tokens / SAMPLE_TOKENS))
    for shard in corpus.shards:
        sides = [languages is None or code in languages for code in (shard.source, shard.target)]
        for first in range(0, shard.num_pairs, stride * _BLOCK):
            last = min(first + _BLOCK, shard.num_pairs)
            tokens, lengths, hashes = shard.block(first, last)
            counted = np.tile(sides, last - first)
            kept = np.asarray(tokens)[np.repeat(counted, lengths)]
            yield kept, lengths[counted], hashes[counted]
