"""Find translations between two collections of sentences, or score given pairs."""

from ems_fast.mining.pairs import (
    Threshold,
    fit_threshold,
    pair_cosines,
    score_pair_vectors,
    score_pairs,
)
from ems_fast.mining.search import Mining, mine, mine_vectors

__all__ = [
    "Mining",
    "Threshold",
    "fit_threshold",
    "mine",
    "mine_vectors",
    "pair_cosines",
    "score_pair_vectors",
    "score_pairs",
]
