"""Which pairs come next.

Language pairs are drawn with probability ∝ n^exponent. Within one, every pair is seen once before
any is seen twice, in a keyed pseudo-random order that needs no array. Batches are cut from a pool
of many batches sorted by length, so that sentences of a batch are about equally long. A batch has
a fixed number of pairs, or as many as a budget of tokens holds; either is decided for all ranks
together, which then take equally many pairs each, so that means over ranks are means over pairs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ems_fast._batching import PairReader, permuted_rows
from ems_fast.training.batches.config import BatchConfig, GlobalBatch


class Rows(NamedTuple):
    """B pairs by place: shard int32 [B] and row within it int64 [B]."""

    shard: npt.NDArray[np.int32]
    row: npt.NDArray[np.int64]

    def share(self, rank: int, world: int) -> Rows:
        """Every `world`-th pair from the `rank`-th on."""
        mine = slice(rank, None, world)
        return Rows(np.ascontiguousarray(self.shard[mine]), np.ascontiguousarray(self.row[mine]))


class PairSampler:
    """An endless stream of global batches of rows; a pure function of seed and state.

    `sizes` and `tokens` are the pairs and the tokens of each shard; with the `state` that came
    with a batch it goes on behind that. A state of batches of another size is continued with the
    next pool: what its pool had left is passed over until the next epoch.
    """

    def __init__(
        self,
        reader: PairReader,
        sizes: Sequence[int],
        tokens: Sequence[int],
        batch: GlobalBatch,
        config: BatchConfig,
        state: dict[str, Any] | None = None,
    ):
        self._reader = reader
        self._sizes = np.array(sizes, dtype=np.int64)
        weights = self._sizes.astype(np.float64) ** config.sampling_exponent
        self._probabilities = weights / weights.sum()
        mean_tokens = float(self._probabilities @ (np.array(tokens) / self._sizes))
        self._cuts = batch
        self._pool_pairs = batch.pool_pairs(sum(sizes), mean_tokens)
        self._seed = config.seed
        self._sort_by_length = config.sort_by_length
        self._pool = state["pool"] if state else 0
        self._batch = state["batch"] if state else 0
        self._consumed = np.array(state["consumed"] if state else [0] * len(sizes), dtype=np.int64)
        # What a pool's batches depend on besides the seed.
        self._cut_as = {**asdict(batch), "pool_pairs": self._pool_pairs}
        if state and state.get("cuts", self._cut_as) != self._cut_as:
            self._consumed += self._counts(self._random(), state["cuts"]["pool_pairs"])
            self._pool, self._batch = self._pool + 1, 0

    def __iter__(self) -> Iterator[tuple[Rows, dict[str, Any]]]:
        """Batches, each with the state from which its successor follows."""
        while True:
            batches, consumed = self._draw_pool()
            while self._batch < len(batches):
                batch = batches[self._batch]
                self._batch += 1
                place = {"pool": self._pool, "batch": self._batch}
                consumed_before = self._consumed.tolist()
                yield batch, {**place, "consumed": consumed_before, "cuts": self._cut_as}
            self._pool, self._batch, self._consumed = self._pool + 1, 0, consumed

    def _random(self) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=self._seed, counter=self._pool << 64))

    def _counts(self, rng: np.random.Generator, size: int) -> npt.NDArray[np.int64]:
        """How many pairs of each shard a pool of `size` has."""
        counts: npt.NDArray[np.int64] = rng.multinomial(size, self._probabilities)
        return counts

    def _draw_pool(self) -> tuple[list[Rows], npt.NDArray[np.int64]]:
        rng, size = self._random(), self._pool_pairs
        counts = self._counts(rng, size)
        shard = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        row = np.empty(size, dtype=np.int64)
        start = 0
        for s, count in enumerate(counts.tolist()):
            part = row[start : start + count]
            # Every shard walks its own permutation.
            permuted_rows(
                int(self._consumed[s]), int(self._sizes[s]), self._seed * 65_537 + s, part
            )
            start += count
        lengths = np.empty((2, size), dtype=np.int64)
        self._reader.lengths(shard, row, lengths)
        tokens = lengths.sum(axis=0)
        # Sorted by length, equals in random order; then whole batches in random order.
        order = rng.permutation(size)
        if self._sort_by_length:
            order = np.lexsort((order, tokens))
        cuts = self._cuts.cut(tokens[order])
        batches = [order[cuts[index]] for index in rng.permutation(len(cuts)).tolist()]
        return [Rows(shard[b], row[b]) for b in batches], self._consumed + counts
