"""How good an encoder is: translations found among many lines that are none."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from ems_fast.encoding.protocol import Encodes, encode_sentences
from ems_fast.growing.texts import Pairs
from ems_fast.mining.exact import nearest

# A right answer must be nearer than the next by this much: a tie is a miss.
_TIE = 1e-6


def draw(lines: Sequence[str], most: int) -> list[str]:
    """At most `most` of the lines; the same at every call."""
    return random.Random(0).sample(list(lines), min(most, len(lines)))


def accuracy(encoder: Encodes, pairs: Pairs, pool: tuple[Sequence[str], Sequence[str]]) -> float:
    """The share of sentences whose nearest line is their translation, both directions averaged.

    A sentence is compared with all translations of the pairs and with the lines of the pool in that
    language. A collapsed model scores 0.
    """
    sides = [list(side) for side in zip(*pairs, strict=True)]
    vectors = [encode_sentences(encoder, "pairs", side) for side in sides]
    hits = 0.0
    for query, item in ((0, 1), (1, 0)):
        items = np.concatenate([vectors[item], encode_sentences(encoder, "pool", pool[item])])
        found = nearest(vectors[query], items, 2)
        right = found.indices[:, 0] == np.arange(len(pairs))
        clear = found.scores[:, 0] > found.scores[:, 1] + _TIE
        hits += float((right & clear).mean())
    return hits / 2
