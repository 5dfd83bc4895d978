"""Translation retrieval: does the vector of a sentence find its translation among all others?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ems_fast.encoding.protocol import (
    Encodes,
    check_sentences,
    check_translations,
    encode_sentences,
    text_ids,
)
from ems_fast.errors import InputError, check_one_of
from ems_fast.mining.exact import (
    Vectors,
    blocks,
    check_k,
    check_pairs,
    nearest,
    nearest_both,
    unit_rows,
)
from ems_fast.mining.margin import MARGINS, Margin, margin_scores

# Scores closer than this are a tie. Equal vectors do not always give equal products: the cells
# at the edge of a block are summed in another order. 1e-6 is a few roundings of a float32 cosine.
TIE_TOLERANCE = 1e-6
# A cell of a block of scores needs about 24 bytes (cosines, margins, masks).
CELLS = 2 << 20


@dataclass(frozen=True)
class RetrievalResult:
    """How well translations are found, as fractions from 0 to 1.

    Attributes:
        n: number of pairs.
        forward: accuracy from source to target: the share of source sentences whose nearest
            target by cosine is their translation.
        backward: the same from target to source.
        xsim_error: error rate from source to target when the k nearest targets are ranked by
            `margin`, as LASER's xsim has it.
        xsim_error_back: the same from target to source.
        margin: what xsim ranked by.
        k: the neighbourhood that xsim used; less than asked for when there are fewer pairs.
    """

    n: int
    forward: float
    backward: float
    xsim_error: float
    xsim_error_back: float
    margin: Margin
    k: int

    @property
    def mean(self) -> float:
        """The mean of the accuracies in both directions."""
        return (self.forward + self.backward) / 2


def evaluate_retrieval(
    encoder: Encodes,
    source_sentences: Sequence[str],
    target_sentences: Sequence[str],
    *,
    margin: Margin = "ratio",
    k: int = 4,
) -> RetrievalResult:
    """Measure how often a sentence's translation is its nearest neighbour, in both directions.

    Ties count fairly: where t candidates share the highest score and g of them are right, the
    query counts g / t, the chance of a random choice among them. So a collapsed model, which
    gives every sentence the same vector, scores 1/n; taking the first of the tied candidates,
    or ranking the translation first among its equals, would give it up to 1.

    Texts that occur more than once are one answer: for a query, each target whose text equals its
    translation's is right, and so is each target that the set pairs with a copy of the query.

    The sides are n sentences and their translations, in the same order; `margin` and `k`, of which
    at most n is used, are those of `evaluate`.

    Raises:
        InputError: sides of different length, empty, or not strings; an unknown margin.
    """
    check_translations("source_sentences", source_sentences, "target_sentences", target_sentences)
    check_one_of("margin", margin, MARGINS)
    return retrieval_from_vectors(
        encode_sentences(encoder, "source_sentences", source_sentences),
        encode_sentences(encoder, "target_sentences", target_sentences),
        margin=margin,
        k=k,
        source_ids=text_ids(source_sentences),
        target_ids=text_ids(target_sentences),
    )


def retrieval_from_vectors(
    source_vectors: Vectors,
    target_vectors: Vectors,
    *,
    margin: Margin = "ratio",
    k: int = 4,
    source_ids: npt.NDArray[np.int64] | None = None,
    target_ids: npt.NDArray[np.int64] | None = None,
) -> RetrievalResult:
    """`evaluate_retrieval` for vectors that are already there, [n, D] both.

    They are of any float dtype and need not be normalised. Holds a float32 copy of one side at a
    time and some 50 MB beside it.

    Args:
        source_ids: int64 [n]; rows with the same id have the same text. None: all differ.
        target_ids: the same for the target.

    Raises:
        InputError: vectors that are empty, not finite, or of different shapes; an unknown margin.
    """
    check_pairs("source_vectors", source_vectors, "target_vectors", target_vectors)
    check_one_of("margin", margin, MARGINS)
    n = len(source_vectors)
    check_k(k, "pairs")
    k = min(k, n)
    ids = _texts("source_ids", source_ids, n), _texts("target_ids", target_ids, n)
    sides = (source_vectors, target_vectors)
    found = nearest_both(*sides, k)
    means = [torch.from_numpy(neighbors.mean_scores()) for neighbors in found]

    def search(query: int, item: int) -> tuple[float, float]:
        """Accuracy and xsim's error rate in one direction."""
        scores = torch.from_numpy(found[query].scores)  # (n, k), descending
        given = sides[query], sides[item], ids, (means[query], means[item])
        accuracy = _hits(*given, scores[:, :1], "absolute")
        by_margin = accuracy if margin == "absolute" else _hits(*given, scores[:, -1:], margin)
        return accuracy, 1.0 - by_margin

    (forward, error), (backward, error_back) = search(0, 1), search(1, 0)
    return RetrievalResult(n, forward, backward, error, error_back, margin, k)


def _hits(
    queries: Vectors,
    items: Vectors,
    ids: tuple[Tensor, Tensor],
    means: tuple[Tensor, Tensor],
    floor: Tensor,
    margin: Margin,
) -> float:
    """The share of queries whose best margin among the items of cosine ≥ floor [n, 1] is right.

    Items tied with the floor are all let in, so that xsim too counts ties fairly.
    """
    n = len(queries)
    total = 0.0
    everything = torch.from_numpy(unit_rows("items", items, 0, n))
    for i, i_end in blocks(n, max(1, CELLS // n)):
        block = torch.from_numpy(unit_rows("queries", queries, i, i_end))
        cosine = block @ everything.T  # (b, n)
        scores = margin_scores(cosine, means[0][i:i_end, None], means[1][None, :], margin)
        scores = scores.masked_fill(cosine < floor[i:i_end] - TIE_TOLERANCE, -torch.inf)
        tied = scores >= scores.amax(dim=1, keepdim=True) - TIE_TOLERANCE
        right = (ids[0][i:i_end, None] == ids[0]) | (ids[1][i:i_end, None] == ids[1])
        shares = (tied & right).sum(dim=1, dtype=torch.float64) / tied.sum(dim=1)
        total += float(shares.sum())
    return total / n


def _texts(name: str, ids: npt.NDArray[np.int64] | None, n: int) -> Tensor:
    """Which rows have the same text, int64 [n]."""
    if ids is None:
        return torch.arange(n)
    if ids.shape != (n,):
        raise InputError(f"{name}: got an array of shape {ids.shape}, expected [{n}]")
    return torch.from_numpy(np.array(ids, dtype=np.int64))


@dataclass(frozen=True)
class Example:
    """A query and what the encoder finds nearest to it.

    Attributes:
        query: the sentence looked for.
        texts: the nearest sentences, nearest first.
        scores: their cosines.
    """

    query: str
    texts: tuple[str, ...]
    scores: tuple[float, ...]


def nearest_examples(
    encoder: Encodes, queries: Sequence[str], sentences: Sequence[str], n: int = 3
) -> list[Example]:
    """Find the `n` sentences nearest to each query, to be read by a person.

    A text that occurs twice among the sentences is one candidate.

    Raises:
        InputError: not strings, empty, or fewer different sentences than `n`.
    """
    check_sentences("sentences", sentences)
    texts = list(dict.fromkeys(sentences))
    found = nearest(
        encode_sentences(encoder, "queries", queries),
        encode_sentences(encoder, "sentences", texts),
        n,
        names=("queries", "different sentences"),
    )
    return [
        Example(query, tuple(texts[j] for j in indices), tuple(map(float, scores)))
        for query, indices, scores in zip(queries, found.indices, found.scores, strict=True)
    ]
