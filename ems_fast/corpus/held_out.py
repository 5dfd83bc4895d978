"""Choosing the pairs kept back for validation, and keeping training text apart from them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ems_fast.corpus.hashing import mix, pair_hashes
from ems_fast.corpus.spool import Records

# What becomes of a pair of the spool.
TRAIN, DUPLICATE, HELD_OUT, OVERLAP = range(4)

MAX_SHARE = 0.05  # of a language pair, at most, is held out
_MAX_OVERLAP = 0.05  # of it, at most, is dropped for sharing a sentence with that
_CANDIDATES = 8  # looked at for each pair wanted


@dataclass(frozen=True)
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
    def none(cls) -> HeldOut:
        """Nothing is held out."""
        return cls(np.empty(0, dtype=np.uint64), np.empty(0, dtype=np.int64))

    def status(self, records: Records, duplicate: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
        """`TRAIN`, `DUPLICATE`, `HELD_OUT` or `OVERLAP` of every record [n]."""
        source, target = records["source"], records["target"]
        status = np.where(
            _among(source, self.sentences) | _among(target, self.sentences), OVERLAP, TRAIN
        ).astype(np.uint8)
        status[_among(pair_hashes(source, target), self.pairs)] = HELD_OUT
        status[duplicate] = DUPLICATE
        return status


def choose_held_out(
    chunks: Callable[[], Iterator[tuple[Records, npt.NDArray[np.bool_]]]],
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

    Args:
        chunks: gives the records with their duplicate flags, from the start at every call.
        unique: pairs that are no duplicates.
        wanted: pairs to hold out.
        seed: another seed, another choice.
    """
    wanted = min(wanted, int(unique * MAX_SHARE))
    candidates = np.empty(0, dtype=[("key", "<u8"), ("source", "<i8"), ("target", "<i8")])
    if wanted == 0:
        return HeldOut.none()
    for records, duplicate in chunks():
        rows = np.empty(len(records), dtype=candidates.dtype)
        rows["key"] = mix(records["source"].view(np.uint64), seed + 3)
        rows["source"], rows["target"] = records["source"], records["target"]
        merged = np.concatenate([candidates, rows[~duplicate]])
        order = np.lexsort((merged["target"], merged["key"]))
        candidates = merged[order][: _CANDIDATES * wanted]

    cost = np.zeros(len(candidates), dtype=np.int64)
    for side in ("source", "target"):
        values, inverse = np.unique(candidates[side], return_inverse=True)
        counts = _occurrences(
            (records[side][~duplicate] for records, duplicate in chunks()), values
        )
        cost += counts[inverse] - 1

    budget = int(unique * _MAX_OVERLAP)
    sources: list[int] = []
    targets: list[int] = []
    taken: tuple[set[int], set[int]] = (set(), set())
    rows_in_order = zip(
        candidates["source"].tolist(), candidates["target"].tolist(), cost.tolist(), strict=True
    )
    for source, target, price in rows_in_order:
        if len(sources) == wanted:
            break
        if source in taken[0] or target in taken[1] or price > budget:
            continue
        budget -= price
        taken[0].add(source)
        taken[1].add(target)
        sources.append(source)
        targets.append(target)
    return _held_out(sources, targets)


def keep_apart(held_out: Sequence[HeldOut]) -> list[HeldOut]:
    """The same choices, with no sentence held out of one language pair in another's training text.

    Otherwise a corpus of the same English sentences in many languages would be scored on
    sentences that the model knows from elsewhere.
    """
    sentences = np.unique(
        np.concatenate([HeldOut.none().sentences, *(one.sentences for one in held_out)])
    )
    return [replace(one, sentences=sentences) for one in held_out]


def _held_out(sources: list[int], targets: list[int]) -> HeldOut:
    a, b = np.array(sources, dtype=np.int64), np.array(targets, dtype=np.int64)
    return HeldOut(np.sort(pair_hashes(a, b)), np.unique(np.concatenate([a, b])))


def _occurrences(
    chunks: Iterable[npt.NDArray[np.int64]], values: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """How often each of the sorted `values` occurs."""
    counts = np.zeros(len(values), dtype=np.int64)
    for chunk in chunks:
        found = chunk[_among(chunk, values)]
        counts += np.bincount(np.searchsorted(values, found), minlength=len(values))
    return counts


def _among(values: npt.NDArray[Any], ordered: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which of `values` are in the sorted array `ordered`."""
    if len(ordered) == 0:
        return np.zeros(len(values), dtype=np.bool_)
    index = np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)
    found: npt.NDArray[np.bool_] = ordered[index] == values
    return found
