"""A filter for OpusFilter's configuration, in place of its SentenceEmbeddingFilter.

OpusFilter (extra ``opusfilter``) imports it by name::

    filters:
      - EmbeddingFilter:
          threshold: 0.1
          margin: absolute
        module: ems_fast.filtering.opusfilter
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

from opusfilter import CLEAN_HIGH, FilterABC

from ems_fast.encoding.load import load
from ems_fast.errors import InputError, check_one_of
from ems_fast.filtering.scoring import POOL_PAIRS, score_pool

MARGINS = ("absolute", "ratio")


class EmbeddingFilter(FilterABC):  # type: ignore[misc]
    """Keeps pairs whose vectors are near; scores are those of `ems_fast.filter_pairs`.

    Args:
        model: folder of a run, or the name of a shipped model; None takes that.
        threshold: the lowest score to keep.
        margin: ``absolute`` (cosine) or ``ratio`` (cosine against the neighbours within the pool).
        pool: pairs that are scored together.
        device: where to compute; None takes a GPU if there is one.

    Raises:
        InputError: an unknown margin, a pool below 1 or a model that cannot be loaded.
    """

    score_direction = CLEAN_HIGH
    accept_threshold = -(10**6)
    reject_threshold = 10**6

    def __init__(
        self,
        model: str | None = None,
        threshold: float = 0.1,
        margin: str = "absolute",
        pool: int = POOL_PAIRS,
        device: str | None = None,
        **kwargs: Any,
    ):
        check_one_of("margin", margin, MARGINS)
        if pool < 1:
            raise InputError(f"pool: got {pool!r}, expected at least 1")
        super().__init__(**kwargs)
        self.threshold = threshold
        self.pool = pool
        self._encoder = load(model, device=device)
        self._side = MARGINS.index(margin)

    def score(self, pairs: Iterable[Sequence[str]]) -> Iterator[float]:
        """One score a pair."""
        for _, score in self._scored(pairs):
            yield score

    def accept(self, score: float) -> bool:
        """Whether a pair of this score is kept."""
        return score >= self.threshold

    def filter(self, pairs: Iterable[Sequence[str]]) -> Iterator[Sequence[str]]:
        """The pairs that are kept; OpusFilter's own would score them one by one."""
        return (pair for pair, score in self._scored(pairs) if self.accept(score))

    def filterfalse(self, pairs: Iterable[Sequence[str]]) -> Iterator[Sequence[str]]:
        """The pairs that are not."""
        return (pair for pair, score in self._scored(pairs) if not self.accept(score))

    def _scored(self, pairs: Iterable[Sequence[str]]) -> Iterator[tuple[Sequence[str], float]]:
        rest = iter(pairs)
        while pool := list(islice(rest, self.pool)):
            for pair in pool:
                if len(pair) != 2:
                    raise InputError(f"pairs: got {len(pair)} segments, expected source and target")
            sources, targets = ([pair[side] for pair in pool] for side in (0, 1))
            scores = score_pool(self._encoder, sources, targets)[self._side]
            yield from zip(pool, scores.tolist(), strict=True)
