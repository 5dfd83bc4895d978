"""How alike the two sides of each pair of a pool are: in meaning, and in length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ems_fast.corpus.cleaning import effective_length
from ems_fast.encoding.protocol import Encodes, encode_sentences, text_ids
from ems_fast.mining.exact import nearest_both
from ems_fast.mining.margin import margin_scores
from ems_fast.mining.pairs import pair_cosines

Floats = npt.NDArray[np.float32]

K = 4
# The neighbourhood of a margin. Cost grows with its size, k nearest neighbours need few others.
POOL_PAIRS = 4096
# Added to lengths, so that short sentences may differ.
_SLACK = 10
# With fewer pairs of two languages in a pool, their usual ratio of lengths is taken to be 1.
_MIN_PAIRS = 50


def score_pool(
    encoder: Encodes, sources: Sequence[str], targets: Sequence[str]
) -> tuple[Floats, Floats]:
    """Cosine and margin of n pairs, each sentence encoded once.

    The margin is the ratio of the cosine to the mean over both sentences' K nearest neighbours
    among the different sentences of the pool's other side (Artetxe and Schwenk, 2019); a pool with
    too few of them has the margin of its cosines alone, 1 for every pair.

    Returns:
        float32 [n] both.
    """
    source = encode_sentences(encoder, "sources", sources)
    target = encode_sentences(encoder, "targets", targets)
    cosine = pair_cosines(source, target)
    source_kept, source_of = np.unique(text_ids(sources), return_inverse=True)
    target_kept, target_of = np.unique(text_ids(targets), return_inverse=True)
    if min(len(source_kept), len(target_kept)) <= K:
        return cosine, np.ones_like(cosine)
    forward, backward = nearest_both(source[source_kept], target[target_kept], K)
    means = forward.mean_scores()[source_of], backward.mean_scores()[target_of]
    return cosine, margin_scores(cosine, *means, "ratio")


def length_deviations(
    sources: Sequence[str], targets: Sequence[str], languages: Sequence[tuple[str, str]]
) -> Floats:
    """How many times longer or shorter a target is than its source, against what is usual.

    Usual is the median of the pool's pairs of the same languages.

    Returns:
        float32 [n], at least 1.
    """
    ratios = np.array(
        [
            np.log((effective_length(target) + _SLACK) / (effective_length(source) + _SLACK))
            for source, target in zip(sources, targets, strict=True)
        ],
        np.float32,
    )
    rows = defaultdict(list)
    for row, pair in enumerate(languages):
        rows[pair].append(row)
    for same in rows.values():
        if len(same) >= _MIN_PAIRS:
            ratios[same] -= np.median(ratios[same])
    return np.exp(np.abs(ratios), dtype=np.float32)
