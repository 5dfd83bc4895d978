"""Bitext mining: find translations between two collections of sentences."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import numpy.typing as npt

from ems_fast.encoding.precision import Precision
from ems_fast.encoding.protocol import Encodes, check_sentences, encode_sentences, text_ids
from ems_fast.errors import InputError, check, check_one_of
from ems_fast.files.atomic import replacing
from ems_fast.mining.exact import (
    INDEXES,
    MEMORY_BYTES,
    Index,
    Neighbors,
    Vectors,
    check_k,
    nearest_both,
)
from ems_fast.mining.margin import MARGINS, Margin, margin_scores

if TYPE_CHECKING:
    import torch

Strategy = Literal["max", "mutual", "forward", "backward"]
STRATEGIES: tuple[str, ...] = get_args(Strategy)
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
        found = zip(self.source_indices, self.target_indices, self.scores.tolist(), strict=True)
        return ((source[i], target[j], score) for i, j, score in found)

    def to_tsv(self, path: str | Path) -> None:
        """Write the pairs, best first, as `write_pairs` does.

        Raises:
            InputError: the pairs were mined from vectors alone, or the file cannot be written.
        """
        write_pairs(path, self.pairs())


def write_pairs(path: str | Path, pairs: Iterable[tuple[str, str, float]]) -> None:
    """Write a line a pair: source, target and score, with tabs between them, as UTF-8.

    Tabs and line breaks inside of a sentence become spaces. The file appears when it is whole.

    Raises:
        InputError: the file cannot be written.
    """
    blanks = str.maketrans("\t\n\r", "   ")
    with (
        replacing(Path(path)) as temporary,
        temporary.open("w", encoding="utf-8", newline="\n") as file,
    ):
        for source, target, score in pairs:
            sides = f"{source.translate(blanks)}\t{target.translate(blanks)}"
            file.write(f"{sides}\t{score:.6f}\n")


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
    precision: Precision = "float32",
    dim: int | None = None,
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
            the neighbours, for collections beyond a million; ``"binary"`` (of the same extra)
            compares signs first, in an eighth of its memory; see `nearest_both`.
        precision: how the vectors are held: ``"int8"`` in a quarter of the memory, ``"ubinary"`` in
            a thirty-second, at the price of accuracy.
        dim: dimensions to compare, the first ones; None compares all.

    Raises:
        InputError: not strings, empty, k larger than a side; an unknown margin, strategy, index or
            precision; no such `dim`.
        BackendError: faiss is asked for and not installed.
    """
    check_one_of("index", index, INDEXES)
    _check_options(margin, strategy, threshold)
    check_sentences("source_sentences", source_sentences)
    check_sentences("target_sentences", target_sentences)
    source_kept = _distinct("source_sentences", source_sentences)
    target_kept = _distinct("target_sentences", target_sentences)
    check_k(k, "different source sentences", len(source_kept))
    check_k(k, "different target sentences", len(target_kept))
    source, target = (
        encode_sentences(encoder, name, [side[i] for i in kept], precision=precision, dim=dim)
        for name, side, kept in (
            ("source", source_sentences, source_kept),
            ("target", target_sentences, target_kept),
        )
    )
    found = mine_vectors(
        source,
        target,
        k=k,
        margin=margin,
        threshold=threshold,
        strategy=strategy,
        memory_bytes=memory_bytes,
        device=device,
        index=index,
    )
    return Mining(
        source_kept[found.source_indices],
        target_kept[found.target_indices],
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
    """`mine` for vectors that are already there, [n, D] and [m, D]; every row takes part.

    They are of any float dtype, int8 or bits, also memory-mapped or as `open_embeddings` gives
    them, and need not be normalised. The options are those of `mine`.

    Raises:
        InputError: vectors that are empty, not finite or of different widths; options as in `mine`.
    """
    _check_options(margin, strategy, threshold)
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

    `forward` are the source vectors' neighbours among the targets, `backward` the reverse.

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


def _check_options(margin: str, strategy: str, threshold: float | None) -> None:
    check_one_of("margin", margin, MARGINS)
    check_one_of("strategy", strategy, STRATEGIES)
    finite = threshold is None or np.isfinite(threshold)
    check(bool(finite), "threshold", threshold, "a finite number or None")


def _distinct(name: str, sentences: Sequence[str]) -> IntArray:
    """Positions of the first occurrence of each different sentence that is not blank."""
    first = np.unique(text_ids(sentences))
    kept = np.array([i for i in first if sentences[i].strip()], dtype=np.int64)
    if not len(kept):
        raise InputError(f"{name}: all {len(sentences)} sentences are blank")
    return kept
