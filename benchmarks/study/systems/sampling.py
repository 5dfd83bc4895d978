"""Pairs drawn as `ems_fast.train` draws them, for the baselines: by language, ∝ size^exponent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def shares(sizes: Sequence[int], exponent: float) -> npt.NDArray[np.float64]:
    """The probability of each language pair."""
    weights: npt.NDArray[np.float64] = np.array(sizes, dtype=np.float64) ** exponent
    return weights / weights.sum()


def epoch(
    sizes: Sequence[int], exponent: float, rng: np.random.Generator
) -> list[npt.NDArray[np.int64]]:
    """Rows of each language pair, together about as many as there are pairs.

    No row is there a second time before each was there once.
    """
    total = sum(sizes)
    return [
        np.resize(rng.permutation(size), max(1, round(share * total)))
        for size, share in zip(sizes, shares(sizes, exponent), strict=True)
    ]
