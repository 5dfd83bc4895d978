"""Bitext mining: find translations between two collections of sentences, or score given pairs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from ems_fast.atomic import replacing
from ems_fast.encodes import Encodes, check_sentences, encode_sentences, text_ids
from ems_fast.errors import InputError
from ems_fast.margin import Margin, check_margin, margin_scores
from ems_fast.neighbors import (
    MEMORY_BYTES,
    Index,
    Neighbors,
    Vectors,
    blocks,
    check_index,
    check_k,
    check_pair,
    check_pairs,
    nearest,
    nearest_both,
    unit_rows,
)

Strategy = Literal["max", "mutual", "forward", "backward"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)
# Rows whose cosines are computed at once, so that their scaled copies stay small.
PAIR_BLOCK = 16384

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Mining:
    """Mined pairs, best first.

    Attributes:
        source_indices: int64 [p], positions in what was mined.
        target_indices: int64 [p].
        scores: float32 [p], margin scores, descending.
        source_sentences: what was mined, all of it; None if only vectors were given.
        target_sentences: the same for the other side.
    """

    source_indices: IntArray
    target_indices: IntArray
    scores: npt.NDArray[np.float32]
    source_sentences: Sequence[str] | None = None
    target_sentences: Sequence[str] | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def pairs(self) -> Iterator[tuple[str, str, float]]:
        """Yield (source sentence, target sentence, score), best first.

        Raises:
            InputError: the pairs were mined from vectors alone.
        """
        source, target = self.source_sentences, self.target_sentences
        if source is None or target is None:
            raise InputError(
                "mining: holds no sentences since it was made from vectors; "
                "use its indices, or mine() with sentences"
            )
        return (
            (source[i], target[j], float(score))
            for i, j, score in zip(
                self.source_indices, self.target_indices, self.scores, strict=True
            )
        )

    def to_tsv(self, path: str | Path) -> None:
        """Write a line a pair: source, target and score, with tabs between them, as UTF-8.

        Tabs and line breaks inside of a sentence become spaces. The file appears when it is whole.

        Raises:
            InputError: the pairs were mined from vectors alone, or the file cannot be written.
        """
        pairs = self.pairs()
        with (
            replacing(Path(path)) as temporary,
            temporary.open("w", encoding="utf-8", newline="\n") as file,
        ):
            for source, target, score in pairs:
                file.write(f"{_one_line(source)}\t{_one_line(target)}\t{score:.6f}\n")


def mine(
    encoder: Encodes,
    source_sentences: Sequence[str],
    target_sentences: Sequence[str],
    *,
    k: int = 4,
    margin: Margin = "ratio",
    threshold: float | None = None,
    strategy: Strategy = "max",
    memory_bytes: int = MEMORY_BYTES,
    device: torch.device | str = "cpu",
    index: Index = "exact",
) -> Mining:
    """Find translations between two collections (Artetxe & Schwenk, 2019).

    Each sentence's k nearest neighbours on the other side are scored by their margin; the best of
    them is the sentence's candidate, and `strategy` chooses among the candidates of both sides.
    A text that occurs several times on a side takes part once, as its first occurrence, and
    blank sentences take no part.

    Args:
        encoder: encodes both sides; all vectors are held in memory.
        source_sentences: n sentences.
        target_sentences: m sentences.
        k: the neighbourhood, at most the number of different sentences on either side.
        margin: ``ratio``, ``distance`` or ``absolute`` (plain cosine).
        threshold: drop pairs that score less; see `fit_threshold`. None keeps all.
        strategy: ``max``: go through the candidates of both directions from the best score down,
            and take those of which neither sentence is taken; ``mutual``: pairs that are each
            other's candidate; ``forward``: each source's candidate (a target may repeat);
            ``backward``: each target's candidate.
        memory_bytes: working memory of the search, as in `nearest_both`.
        device: where the search computes its products.
        index: ``"exact"`` compares all sentences with all; ``"faiss"`` (an extra) finds most of
            the neighbours, for collections beyond a million, as
            `ems_fast.approximate.nearest_faiss` describes.

    Raises:
        InputError: not strings, empty, k larger than a side; an unknown margin, strategy or index.
        BackendError: faiss is asked for and not installed.
    """
    _check_options(margin, strategy, threshold)
    check_index(index)
    check_sentences("source_sentences", source_sentences)
    check_sentences("target_sentences", target_sentences)
    source_kept = _distinct("source_sentences", source_sentences)
    target_kept = _distinct("target_sentences", target_sentences)
    check_k(k, "different source sentences", len(source_kept))
    check_k(k, "different target sentences", len(target_kept))
    found = mine_vectors(
        encode_sentences(encoder, "source", [source_sentences[i] for i in source_kept]),
        encode_sentences(encoder, "target", [target_sentences[i] for i in target_kept]),
        k=k,
        margin=margin,
        threshold=threshold,
        strategy=strategy,
        memory_bytes=memory_bytes,
        device=device,
        index=index,
    )
    return Mining(
        np.array(source_kept, dtype=np.int64)[found.source_indices],
        np.array(target_kept, dtype=np.int64)[found.target_indices],
        found.scores,
        source_sentences,
        target_sentences,
    )


def mine_vectors(
    source_vectors: Vectors,
    target_vectors: Vectors,
    *,
    k: int = 4,
    margin: Margin = "ratio",
    threshold: float | None = None,
    strategy: Strategy = "max",
    memory_bytes: int = MEMORY_BYTES,
    device: torch.device | str = "cpu",
    index: Index = "exact",
) -> Mining:
    """`mine` for vectors that are already there; every row takes part.

    Args:
        source_vectors: [n, D] of any float dtype, also memory-mapped or as
            `open_embeddings` gives them; need not be normalised.
        target_vectors: [m, D].
        k: as in `mine`.
        margin: as in `mine`.
        threshold: as in `mine`.
        strategy: as in `mine`.
        memory_bytes: as in `mine`.
        device: as in `mine`.
        index: as in `mine`.

    Raises:
        InputError: vectors that are empty, not finite or of different widths; options as in `mine`.
    """
    _check_options(margin, strategy, threshold)
    check_index(index)
    check_pair("source_vectors", source_vectors, "target_vectors", target_vectors)
    forward, backward = nearest_both(
        source_vectors, target_vectors, k, memory_bytes=memory_bytes, device=device, index=index
    )
    source, target, scores = select_pairs(
        *score_candidates(forward, backward, margin), forward, backward, strategy
    )
    if threshold is not None:
        kept = scores >= np.float32(threshold)
        source, target, scores = source[kept], target[kept], scores[kept]
    return Mining(source, target, scores)


def score_candidates(
    forward: Neighbors, backward: Neighbors, margin: Margin = "ratio"
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Margin scores of every neighbour, in both directions.

    Args:
        forward: the source vectors' neighbours among the targets.
        backward: the target vectors' neighbours among the sources.
        margin: ``ratio``, ``distance`` or ``absolute``.

    Returns:
        float32 [n, k] and [m, k], in the order of the neighbours.
    """
    source_means, target_means = forward.mean_scores(), backward.mean_scores()
    return (
        margin_scores(forward.scores, source_means[:, None], target_means[forward.indices], margin),
        margin_scores(
            backward.scores, source_means[backward.indices], target_means[:, None], margin
        ),
    )


def select_pairs(
    forward_scores: npt.NDArray[np.float32],
    backward_scores: npt.NDArray[np.float32],
    forward: Neighbors,
    backward: Neighbors,
    strategy: Strategy = "max",
) -> tuple[IntArray, IntArray, npt.NDArray[np.float32]]:
    """Choose pairs among scored candidates, as `mine` describes its strategies.

    Returns:
        Source indices int64 [p], target indices int64 [p] and scores float32 [p], descending;
        pairs of equal score are in the order of their indices.
    """
    sources, targets = np.arange(len(forward_scores)), np.arange(len(backward_scores))
    best = forward_scores.argmax(axis=1)
    best_target, best_score = forward.indices[sources, best], forward_scores[sources, best]
    best = backward_scores.argmax(axis=1)
    best_source, best_score_back = backward.indices[targets, best], backward_scores[targets, best]
    if strategy == "forward":
        return _sorted(sources, best_target, best_score)
    if strategy == "backward":
        return _sorted(best_source, targets, best_score_back)
    if strategy == "mutual":
        mutual = best_source[best_target] == sources
        return _sorted(sources[mutual], best_target[mutual], best_score[mutual])
    source, target, scores = _sorted(
        np.concatenate([sources, best_source]),
        np.concatenate([best_target, targets]),
        np.concatenate([best_score, best_score_back]),
    )
    taken = _take_greedily(source, target, len(sources), len(targets))
    return source[taken], target[taken], scores[taken]


def _sorted(
    source: IntArray, target: IntArray, scores: npt.NDArray[np.float32]
) -> tuple[IntArray, IntArray, npt.NDArray[np.float32]]:
    order = np.lexsort((target, source, -scores))
    return source[order], target[order], scores[order]


def _take_greedily(source: IntArray, target: IntArray, n: int, m: int) -> IntArray:
    """Positions of the pairs that a walk from the first to the last would take, ascending.

    The walk takes a pair when neither of its ends is taken. Instead of walking, each round takes
    all pairs that are first among those left at both ends (the walk would take them too: nothing
    before them touches them), and drops every pair that shares an end with one of them.
    """
    left = np.arange(len(source))
    taken = [left[:0]]
    first_source, first_target = np.empty(n, np.int64), np.empty(m, np.int64)
    while len(left):
        s, t = source[left], target[left]
        # Of several assignments to the same place the last one stays: the first, going backwards.
        first_source[s[::-1]] = left[::-1]
        first_target[t[::-1]] = left[::-1]
        takes = (first_source[s] == left) & (first_target[t] == left)
        taken.append(left[takes])
        free_source, free_target = np.ones(n, np.bool_), np.ones(m, np.bool_)
        free_source[s[takes]] = False
        free_target[t[takes]] = False
        left = left[free_source[s] & free_target[t]]
    return np.sort(np.concatenate(taken))


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

    Args:
        encoder: encodes all sentences.
        source_sentences: n sentences.
        target_sentences: their n supposed translations, in the same order.
        k: the neighbourhood; not used by the margin ``absolute``.
        margin: ``ratio``, ``distance`` or ``absolute`` (plain cosine).
        neighborhood: where neighbours are looked for. ``"pairs"``: among the different sentences of
            the other side of the pairs themselves. Or two collections (source, target): sources
            have their neighbours in the second and targets in the first; for a score to mean
            the same as in `mine`, give the collections that the pairs come from.
        memory_bytes: working memory of the search, as in `nearest_both`.
        device: where the search computes its products.

    Returns:
        float32 [n], in the order of the pairs.

    Raises:
        InputError: sides of different length, empty, or not strings; k larger than a
            neighbourhood; an unknown margin.
    """
    check_margin(margin)
    check_sentences("source_sentences", source_sentences)
    check_sentences("target_sentences", target_sentences)
    if len(source_sentences) != len(target_sentences):
        raise InputError(
            f"source_sentences and target_sentences: have {len(source_sentences)} and "
            f"{len(target_sentences)} sentences, expected the same number, pairs in order"
        )
    pools = _pools(neighborhood)
    # The different sentences only.
    source_kept, source_of = np.unique(text_ids(source_sentences), return_inverse=True)
    target_kept, target_of = np.unique(text_ids(target_sentences), return_inverse=True)
    if margin != "absolute" and pools is None:
        check_k(k, "different source sentences", len(source_kept))
        check_k(k, "different target sentences", len(target_kept))
    elif margin != "absolute" and pools is not None:
        check_k(k, "different sentences in the source neighborhood", len(pools[0]))
        check_k(k, "different sentences in the target neighborhood", len(pools[1]))
    source = encode_sentences(encoder, "source_sentences", source_sentences)
    target = encode_sentences(encoder, "target_sentences", target_sentences)
    if margin == "absolute":
        return pair_cosines(source, target)
    if pools is not None:
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
    cosine = pair_cosines(source, target)
    forward, backward = nearest_both(
        source[source_kept], target[target_kept], k, memory_bytes=memory_bytes, device=device
    )
    return margin_scores(
        cosine, forward.mean_scores()[source_of], backward.mean_scores()[target_of], margin
    )


def _pools(
    neighborhood: Literal["pairs"] | tuple[Sequence[str], Sequence[str]],
) -> tuple[list[str], list[str]] | None:
    """The different sentences of both neighbourhoods, or None for those of the pairs."""
    if isinstance(neighborhood, str):
        if neighborhood == "pairs":
            return None
        raise InputError(
            f"neighborhood: got {neighborhood!r}, expected 'pairs' or two lists of sentences"
        )
    if len(neighborhood) != 2:
        raise InputError(
            f"neighborhood: got {len(neighborhood)} items, expected 'pairs' or two lists of "
            f"sentences, source and target"
        )
    source, target = neighborhood
    check_sentences("neighborhood (source)", source)
    check_sentences("neighborhood (target)", target)
    return list(dict.fromkeys(source)), list(dict.fromkeys(target))


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

    Args:
        source_vectors: [n, D] of any float dtype; need not be normalised.
        target_vectors: [n, D]; row i is paired with row i.
        k: as in `score_pairs`.
        margin: as in `score_pairs`.
        source_pool: [p, D], where the targets' neighbours are looked for; by default among
            `source_vectors`.
        target_pool: [q, D], where the sources' neighbours are looked for; by default among
            `target_vectors`.
        memory_bytes: as in `score_pairs`.
        device: as in `score_pairs`.

    Returns:
        float32 [n].

    Raises:
        InputError: vectors that are empty, not finite, or of shapes that do not fit; k larger
            than a pool; an unknown margin.
    """
    check_margin(margin)
    check_pairs("source_vectors", source_vectors, "target_vectors", target_vectors)
    cosine = pair_cosines(source_vectors, target_vectors)
    if margin == "absolute":
        return cosine
    if source_pool is None and target_pool is None:
        forward, backward = nearest_both(
            source_vectors, target_vectors, k, memory_bytes=memory_bytes, device=device
        )
    else:
        forward = nearest(
            source_vectors,
            target_vectors if target_pool is None else target_pool,
            k,
            memory_bytes=memory_bytes,
            device=device,
            names=("source_vectors", "target_pool"),
        )
        backward = nearest(
            target_vectors,
            source_vectors if source_pool is None else source_pool,
            k,
            memory_bytes=memory_bytes,
            device=device,
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
        cosine[i:end] = (source * target).sum(dim=1).numpy()
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
    scores: FloatArray,
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


def _check_options(margin: str, strategy: str, threshold: float | None) -> None:
    check_margin(margin)
    if strategy not in STRATEGIES:
        raise InputError(
            f"strategy: got {strategy!r}, expected one of {', '.join(map(repr, STRATEGIES))}"
        )
    if threshold is not None and not np.isfinite(threshold):
        raise InputError(f"threshold: got {threshold}, expected a finite number or None")


def _distinct(name: str, sentences: Sequence[str]) -> list[int]:
    """Positions of the first occurrence of each different sentence that is not blank."""
    first: dict[str, int] = {}
    for i, sentence in enumerate(sentences):
        if sentence and not sentence.isspace():
            first.setdefault(sentence, i)
    if not first:
        raise InputError(f"{name}: all {len(sentences)} sentences are blank")
    return list(first.values())


def _one_line(sentence: str) -> str:
    return sentence.translate({9: " ", 10: " ", 13: " "})
