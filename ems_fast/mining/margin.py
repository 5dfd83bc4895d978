"""Margin scores: a cosine seen against both sides' neighbourhoods (Artetxe & Schwenk, 2019)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from torch import Tensor

Margin = Literal["ratio", "distance", "absolute"]
MARGINS: tuple[str, ...] = get_args(Margin)
# Ratios are taken against at least this, so that a neighbourhood of cosine 0 or below, as around
# a zero vector, has a finite score.
MIN_NEIGHBORHOOD = 1e-6

Array = TypeVar("Array", npt.NDArray[np.float32], "Tensor")


def margin_scores(cosine: Array, source_means: Array, target_means: Array, margin: Margin) -> Array:
    """Score pairs by their cosine a and b, the mean of their neighbourhoods' mean cosines.

    ``absolute``: a; ``distance``: a − b; ``ratio``: a / max(b, 1e-6), where
    ``b = (source_means + target_means) / 2``: the mean cosines of the source vectors to their k
    nearest targets, and of the target vectors to their k nearest sources. Shapes broadcast.
    """
    if margin == "absolute":
        return cosine
    neighborhood: Any = (source_means + target_means) / 2  # NumPy and torch share what follows
    scores: Array = (
        cosine - neighborhood
        if margin == "distance"
        else cosine / neighborhood.clip(min=MIN_NEIGHBORHOOD)
    )
    return scores
