"""Bitext mining as a test: gold pairs hidden among distractors, after BUCC's shared task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ems_fast.encoding.protocol import Encodes, check_translations, text_ids
from ems_fast.errors import InputError, check
from ems_fast.mining.margin import Margin
from ems_fast.mining.pairs import fit_threshold
from ems_fast.mining.search import Mining, mine


@dataclass(frozen=True)
class BitextTask:
    """Two collections and the pairs to be found in them.

    Attributes:
        source: n sentences.
        target: m sentences.
        gold: int64 [g, 2], positions in source and target.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    gold: npt.NDArray[np.int64]


@dataclass(frozen=True)
class BitextResult:
    """How many of the gold pairs were mined, and how many others.

    Attributes:
        precision: share of the mined pairs that are gold; 0 if there are none.
        recall: share of the gold pairs that were mined.
        f1: harmonic mean of both.
        threshold: the score from which pairs were accepted.
        mined: number of pairs accepted.
        gold: number of different gold pairs.
    """

    precision: float
    recall: float
    f1: float
    threshold: float
    mined: int
    gold: int


def hide_pairs(
    source: Sequence[str], target: Sequence[str], *, gold_fraction: float = 0.2, seed: int = 0
) -> BitextTask:
    """Make a mining task from n sentences and their translations in the same order.

    A random `gold_fraction` of the pairs, more than 0 and at most 1, stays whole. Of the others
    each gives only one of its sides, in turn the source and the target, so that no distractor has
    a translation. A pair that repeats a text of an earlier pair is left out, and both sides are
    shuffled.

    Raises:
        InputError: sides of different length, empty or not strings, or a fraction out of range.
    """
    check_translations("source", source, "target", target)
    check(0 < gold_fraction <= 1, "gold_fraction", gold_fraction, "more than 0 and at most 1")
    own = np.arange(len(source))
    distinct = np.flatnonzero((text_ids(source) == own) & (text_ids(target) == own))
    rng = np.random.default_rng(seed)
    pairs = rng.permutation(distinct)
    g = max(1, round(gold_fraction * len(pairs)))
    gold, rest = pairs[:g], pairs[g:]
    sources, targets = np.concatenate([gold, rest[::2]]), np.concatenate([gold, rest[1::2]])
    order, target_order = rng.permutation(len(sources)), rng.permutation(len(targets))
    return BitextTask(
        tuple(source[i] for i in sources[order]),
        tuple(target[i] for i in targets[target_order]),
        # The gold pairs came first; where did the permutations put them?
        np.stack([np.argsort(order)[:g], np.argsort(target_order)[:g]], axis=1),
    )


def bitext_f1(
    encoder: Encodes,
    task: BitextTask,
    *,
    k: int = 4,
    margin: Margin = "ratio",
    threshold: float | None = None,
) -> BitextResult:
    """Mine a task and compare with its gold pairs: precision, recall and F1.

    BUCC's protocol fits the threshold on one task and applies it to another:
    ``bitext_f1(encoder, test, threshold=bitext_f1(encoder, dev).threshold)``.

    The encoder, `k` and `margin` are as in `mine`.

    Args:
        task: for example from `hide_pairs`.
        threshold: pairs from this score on are accepted; None fits the threshold with the highest
            F1 to this very task, so that the result is an upper bound.

    Raises:
        InputError: as in `mine`, or gold pairs beyond the sentences.
    """
    mining = mine(encoder, task.source, task.target, k=k, margin=margin)
    return score_mining(mining, task, threshold=threshold)


def score_mining(
    mining: Mining, task: BitextTask, *, threshold: float | None = None
) -> BitextResult:
    """Compare what was mined from a task with its gold pairs, as `bitext_f1` does.

    Sentences with the same text are the same sentence.

    Raises:
        InputError: no gold pairs, or gold pairs beyond the sentences.
    """
    sizes = np.array([len(task.source), len(task.target)])
    if task.gold.ndim != 2 or task.gold.shape[1] != 2 or len(task.gold) == 0:
        raise InputError(
            f"gold: got an array of shape {task.gold.shape}, expected [g, 2] with at least one pair"
        )
    if (task.gold < 0).any() or (task.gold >= sizes).any():
        raise InputError(
            f"gold: holds positions beyond the {sizes[0]} source and {sizes[1]} target sentences"
        )
    source_ids, target_ids = text_ids(task.source), text_ids(task.target)
    gold = np.unique(source_ids[task.gold[:, 0]] * sizes[1] + target_ids[task.gold[:, 1]])
    mined = source_ids[mining.source_indices] * sizes[1] + target_ids[mining.target_indices]
    right = np.isin(mined, gold)
    if threshold is None:
        # Where nothing is right, the defined answer is to accept none.
        threshold = float("inf")
        if right.any():
            threshold = fit_threshold(mining.scores, right, total_positives=len(gold)).threshold
    accepted = mining.scores >= np.float32(threshold)
    hits, count = int(right[accepted].sum()), int(accepted.sum())
    return BitextResult(
        precision=hits / count if count else 0.0,
        recall=hits / len(gold),
        f1=2 * hits / (count + len(gold)),
        threshold=float(threshold),
        mined=count,
        gold=len(gold),
    )


def cross_fitted_f1(
    source: Sequence[str],
    target: Sequence[str],
    vectors: tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]],
    *,
    k: int = 4,
    margin: Margin = "ratio",
) -> float:
    """F1 of mining aligned sentences with gold pairs hidden among distractors, after BUCC.

    The vectors are those of both sides, [n, D]; `k`, or the number of sentences of a task if that
    is less, and `margin` are as in `mine`. A random half of the pairs and the other half each
    become a task (`hide_pairs`). Each is scored with the threshold that is best for the other, and
    the mean of both F1 is returned.

    Raises:
        InputError: fewer than two pairs, or as `hide_pairs` and `mine`.
    """
    if len(source) < 2:
        raise InputError(f"source: has {len(source)} sentence, expected at least 2 to mine")
    known = _Known(dict(zip((*source, *target), (*vectors[0], *vectors[1]), strict=True)))
    order = np.random.default_rng(0).permutation(len(source))
    minings = []
    for half in (order[::2], order[1::2]):
        task = hide_pairs([source[i] for i in half], [target[i] for i in half])
        sides = ({text for text in side if text.strip()} for side in (task.source, task.target))
        fewest = max(1, min(map(len, sides)))
        mining = mine(known, task.source, task.target, k=min(k, fewest), margin=margin)
        minings.append((mining, task))
    thresholds = [score_mining(*mined).threshold for mined in minings]
    first, second = (
        score_mining(*mined, threshold=threshold).f1
        for mined, threshold in zip(minings, thresholds[::-1], strict=True)
    )
    return (first + second) / 2


@dataclass(frozen=True)
class _Known:
    """An encoder of sentences whose vectors are there already."""

    vectors: dict[str, npt.NDArray[np.float32]]

    def encode(
        self, sentences: Sequence[str], *, normalize: bool = False
    ) -> npt.NDArray[np.float32]:
        found = np.stack([self.vectors[sentence] for sentence in sentences])
        return found / np.linalg.norm(found, axis=1, keepdims=True) if normalize else found
