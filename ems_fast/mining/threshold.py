"""The score above which a mined pair is taken for a translation."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ems_fast.errors import InputError


@dataclass(frozen=True)
class Threshold:
    """A threshold and how well it tells pairs apart: a pair is accepted if score ≥ threshold.

    Attributes:
        threshold: halfway between the lowest accepted and the highest rejected score.
        precision: share of the accepted pairs that are right.
        recall: share of the right pairs that are accepted.
        f1: harmonic mean of precision and recall.
    """

    threshold: float
    precision: float
    recall: float
    f1: float


def fit_threshold(
    scores: npt.NDArray[np.floating],
    labels: npt.NDArray[np.bool_],
    *,
    total_positives: int | None = None,
) -> Threshold:
    """Find the threshold with the highest F1 on labelled pairs; of several, the highest one.

    Args:
        scores: [n] of any float dtype.
        labels: bool or 0/1 [n]: whether a pair is right.
        total_positives: number of right pairs, if some of them are not among the scored ones
            (they count as missed); by default the number of true labels.

    Raises:
        InputError: different lengths, none of them, NaN, labels other than 0 and 1, no true label,
            or fewer `total_positives` than true labels.
    """
    scores, labels = np.asarray(scores), np.asarray(labels)
    if scores.ndim != 1 or scores.shape != labels.shape or len(scores) == 0:
        raise InputError(
            f"scores and labels: have shapes {scores.shape} and {labels.shape}, "
            f"expected [n] both, with at least one pair"
        )
    if not np.isfinite(scores).all():
        bad = int((~np.isfinite(scores)).argmax())
        raise InputError(f"scores: item {bad} is {scores[bad]}, expected finite scores")
    if not np.isin(labels, (0, 1)).all():
        raise InputError("labels: hold something else than 0 and 1, or True and False")
    positives = int(labels.sum())
    if positives == 0:
        raise InputError("labels: none is true, expected at least one right pair to fit to")
    if total_positives is None:
        total_positives = positives
    if total_positives < positives:
        raise InputError(
            f"total_positives: got {total_positives}, but {positives} of the labels are true"
        )
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    right = np.cumsum(labels[order], dtype=np.int64)
    accepted = np.arange(1, len(scores) + 1)
    f1 = 2 * right / (accepted + total_positives)
    # Pairs of the same score are accepted or rejected together.
    last = np.append(ranked[:-1] != ranked[1:], True)
    best = int(np.where(last, f1, -1.0).argmax())
    threshold = ranked[best]
    if best + 1 < len(ranked):
        middle = ranked[best] / 2 + ranked[best + 1] / 2
        # Between neighbouring floats there is no middle; rounding must not let the lower one in.
        threshold = middle if ranked[best + 1] < middle <= ranked[best] else ranked[best]
    return Threshold(
        threshold=float(threshold),
        precision=float(right[best] / accepted[best]),
        recall=float(right[best] / total_positives),
        f1=float(f1[best]),
    )
