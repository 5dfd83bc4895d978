"""Score given pairs of sentences, and find the score above which one is taken for right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from ems_fast.encoding.protocol import (
    Encodes,
    check_sentences,
    check_translations,
    encode_sentences,
    text_ids,
)
from ems_fast.errors import InputError, check, check_one_of
from ems_fast.mining.exact import (
    MEMORY_BYTES,
    Vectors,
    blocks,
    check_k,
    check_pairs,
    nearest,
    nearest_both,
    unit_rows,
)
from ems_fast.mining.margin import MARGINS, Margin, margin_scores

if TYPE_CHECKING:
    import torch

# Rows whose cosines are computed at once, so that their scaled copies stay small.
PAIR_BLOCK = 16384


def score_pairs(
    encoder: Encodes,
    source_sentences: Sequence[str],
    target_sentences: Sequence[str],
    *,
    k: int = 4,
    margin: Margin = "ratio",
    neighborhood: Literal["pairs"] | tuple[Sequence[str], Sequence[str]] = "pairs",
    memory_bytes: int = MEMORY_BYTES,
    device: torch.device | str = "cpu",
) -> npt.NDArray[np.float32]:
    """Score given pairs: how much closer two sentences are than each is to its neighbours.

    The sides are n sentences and their supposed translations, in the same order; `memory_bytes` and
    `device` are those of `mine`.

    Args:
        k: the neighbourhood; not used by the margin ``absolute``.
        margin: ``ratio``, ``distance`` or ``absolute`` (plain cosine).
        neighborhood: where neighbours are looked for. ``"pairs"``: among the different sentences of
            the other side of the pairs themselves. Or two collections (source, target): sources
            have their neighbours in the second and targets in the first; for a score to mean
            the same as in `mine`, give the collections that the pairs come from.

    Returns:
        float32 [n], in the order of the pairs.

    Raises:
        InputError: sides of different length, empty, or not strings; k larger than a
            neighbourhood; an unknown margin.
    """
    check_one_of("margin", margin, MARGINS)
    check_translations("source_sentences", source_sentences, "target_sentences", target_sentences)
    if isinstance(neighborhood, str):
        wanted = "'pairs' or two lists of sentences"
        check(neighborhood == "pairs", "neighborhood", neighborhood, wanted)
        places = source_sentences, target_sentences
    elif len(neighborhood) != 2:
        raise InputError(
            f"neighborhood: got {len(neighborhood)} items, expected 'pairs' or two lists of "
            f"sentences, source and target"
        )
    else:
        places = neighborhood
    pools = []
    for side, place in zip(("source", "target"), places, strict=True):
        check_sentences(f"neighborhood ({side})", place)
        pools.append(list(dict.fromkeys(place)))
        if margin != "absolute":
            check_k(k, f"different sentences in the {side} neighborhood", len(pools[-1]))
    source = encode_sentences(encoder, "source_sentences", source_sentences)
    target = encode_sentences(encoder, "target_sentences", target_sentences)
    if margin == "absolute":
        return pair_cosines(source, target)
    if not isinstance(neighborhood, str):
        return score_pair_vectors(
            source,
            target,
            k=k,
            margin=margin,
            source_pool=encode_sentences(encoder, "neighborhood", pools[0]),
            target_pool=encode_sentences(encoder, "neighborhood", pools[1]),
            memory_bytes=memory_bytes,
            device=device,
        )
    # One pass over the different sentences serves both directions.
    source_kept, source_of = np.unique(text_ids(source_sentences), return_inverse=True)
    target_kept, target_of = np.unique(text_ids(target_sentences), return_inverse=True)
    forward, backward = nearest_both(
        source[source_kept], target[target_kept], k, memory_bytes=memory_bytes, device=device
    )
    return margin_scores(
        pair_cosines(source, target),
        forward.mean_scores()[source_of],
        backward.mean_scores()[target_of],
        margin,
    )


def score_pair_vectors(
    source_vectors: Vectors,
    target_vectors: Vectors,
    *,
    k: int = 4,
    margin: Margin = "ratio",
    source_pool: Vectors | None = None,
    target_pool: Vectors | None = None,
    memory_bytes: int = MEMORY_BYTES,
    device: torch.device | str = "cpu",
) -> npt.NDArray[np.float32]:
    """`score_pairs` for vectors that are already there.

    The vectors are [n, D], row i of one side paired with row i of the other, of any float dtype;
    they need not be normalised. The options are those of `score_pairs`, but that neighbours are
    looked for in `target_pool` [q, D] for the sources and in `source_pool` [p, D] for the targets,
    by default among `target_vectors` and `source_vectors`.

    Returns:
        float32 [n].

    Raises:
        InputError: vectors that are empty, not finite, or of shapes that do not fit; k larger
            than a pool; an unknown margin.
    """
    check_one_of("margin", margin, MARGINS)
    cosine = pair_cosines(source_vectors, target_vectors)
    if margin == "absolute":
        return cosine
    if source_pool is None and target_pool is None:
        forward, backward = nearest_both(
            source_vectors, target_vectors, k, memory_bytes=memory_bytes, device=device
        )
    else:
        near = partial(nearest, k=k, memory_bytes=memory_bytes, device=device)
        forward = near(
            source_vectors,
            target_vectors if target_pool is None else target_pool,
            names=("source_vectors", "target_pool"),
        )
        backward = near(
            target_vectors,
            source_vectors if source_pool is None else source_pool,
            names=("target_vectors", "source_pool"),
        )
    return margin_scores(cosine, forward.mean_scores(), backward.mean_scores(), margin)


def pair_cosines(source_vectors: Vectors, target_vectors: Vectors) -> npt.NDArray[np.float32]:
    """float32 [n]: the cosine of row i of both [n, D].

    Raises:
        InputError: vectors that are empty, not finite, or of different shapes.
    """
    check_pairs("source_vectors", source_vectors, "target_vectors", target_vectors)
    cosine = np.empty(len(source_vectors), np.float32)
    for i, end in blocks(len(source_vectors), PAIR_BLOCK):
        source = unit_rows("source_vectors", source_vectors, i, end)
        target = unit_rows("target_vectors", target_vectors, i, end)
        cosine[i:end] = np.einsum("nd,nd->n", source, target)
    return cosine


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
    if scores.dtype.kind not in "fiu":
        raise InputError(f"scores: got dtype {scores.dtype}, expected floats")
    if scores.dtype.kind != "f":
        scores = scores.astype(np.float64)
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
        half = ranked.dtype.type(0.5)  # of their dtype, as a Python number is not before NumPy 2
        middle = ranked[best] * half + ranked[best + 1] * half
        # Between neighbouring floats there is no middle; rounding must not let the lower one in.
        threshold = middle if ranked[best + 1] < middle <= ranked[best] else ranked[best]
    return Threshold(
        threshold=float(threshold),
        precision=float(right[best] / accepted[best]),
        recall=float(right[best] / total_positives),
        f1=float(f1[best]),
    )
