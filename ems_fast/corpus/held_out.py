"""Choosing the pairs kept back for validation, and keeping training text apart from them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ems_fast.corpus.hashing import mix, pair_hashes
from ems_fast.corpus.spool import Block, Records

# What becomes of a pair of the spool.
TRAIN, DUPLICATE, HELD_OUT, OVERLAP = range(4)

MAX_SHARE = 0.05  # of a language pair, at most, is held out
_MAX_OVERLAP = 0.05  # of it, at most, is dropped for sharing a sentence with that
_CANDIDATES = 8  # looked at for each pair wanted


@dataclass
class HeldOut:
    """The held-out pairs of one language pair, by their hashes; every array is sorted.

    Attributes:
        pairs: hashes of the pairs.
        sentences: hashes of the sentences that training text must not have: those of the pairs,
            and with `keep_apart` those held out of the other language pairs.
    """

    pairs: npt.NDArray[np.uint64]
    sentences: npt.NDArray[np.int64]

    @classmethod
    def of(cls, hashes: npt.NDArray[np.int64]) -> HeldOut:
        """Hold out the pairs of these sentences [n, 2]."""
        return cls(np.sort(pair_hashes(hashes)), np.unique(hashes))

    def status(self, records: Records, duplicate: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
        """`TRAIN`, `DUPLICATE`, `HELD_OUT` or `OVERLAP` of every record [n]."""
        hashes = records["hashes"]
        shared = _among(hashes, self.sentences).any(axis=1)
        status = np.where(shared, OVERLAP, TRAIN).astype(np.uint8)
        status[_among(pair_hashes(hashes), self.pairs)] = HELD_OUT
        status[duplicate] = DUPLICATE
        return status


def choose_held_out(
    blocks: Callable[[], Iterator[tuple[Block, npt.NDArray[np.bool_]]]],
    unique: int,
    wanted: int,
    seed: int,
) -> HeldOut:
    """Choose up to `wanted` pairs, at most 5 % of the unique ones, by their hashes.

    The choice depends on the set of pairs and the seed, not on their order. It follows the source
    sentence's hash, so that language pairs with the same English text hold out the same of it and
    `keep_apart` costs little. No two chosen pairs share a sentence, so that each has one right
    answer in retrieval, and pairs whose sentences are too common are passed over: dropping
    everything that shares them would cost more than another 5 % of the training text.

    `blocks` gives the pairs with their duplicate flags, from the start at every call; `unique` of
    them are no duplicates.
    """
    wanted = min(wanted, int(unique * MAX_SHARE))
    candidates = np.empty((0, 2), dtype=np.int64)
    if wanted == 0:
        return HeldOut.of(candidates)
    for block, duplicate in blocks():
        merged = np.concatenate([candidates, block.records["hashes"][~duplicate]])
        order = np.lexsort((merged[:, 1], mix(merged[:, 0], seed + 3)))
        candidates = merged[order[: _CANDIDATES * wanted]]

    cost = np.zeros(len(candidates), dtype=np.int64)
    for side in (0, 1):
        values, inverse = np.unique(candidates[:, side], return_inverse=True)
        counts = np.zeros(len(values), dtype=np.int64)
        for block, duplicate in blocks():
            hashes = block.records["hashes"][~duplicate, side]
            found = np.searchsorted(values, hashes[_among(hashes, values)])
            counts += np.bincount(found, minlength=len(values))
        cost += counts[inverse] - 1

    budget = int(unique * _MAX_OVERLAP)
    chosen: list[tuple[int, int]] = []
    taken: tuple[set[int], set[int]] = (set(), set())
    for (source, target), price in zip(candidates.tolist(), cost.tolist(), strict=True):
        if len(chosen) == wanted:
            break
        if source in taken[0] or target in taken[1] or price > budget:
            continue
        budget -= price
        taken[0].add(source)
        taken[1].add(target)
        chosen.append((source, target))
    return HeldOut.of(np.array(chosen, dtype=np.int64).reshape(-1, 2))


def keep_apart(held_out: Sequence[HeldOut]) -> None:
    """Let no sentence held out of one language pair be in another's training text.

    Otherwise a corpus of the same English sentences in many languages would be scored on
    sentences that the model knows from elsewhere.
    """
    sentences = np.unique([h for one in held_out for h in one.sentences]).astype(np.int64)
    for one in held_out:
        one.sentences = sentences


def _among(values: npt.NDArray[Any], ordered: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which of `values` are in the sorted array `ordered`."""
    if len(ordered) == 0:
        return np.zeros(values.shape, dtype=np.bool_)
    index = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    found: npt.NDArray[np.bool_] = ordered[index] == values
    return found
