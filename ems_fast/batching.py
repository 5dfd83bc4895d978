"""From a memory-mapped corpus to batches: which pairs come next, and their tensors.

Language pairs are drawn with probability ∝ n^exponent. Within one, every pair is seen once before
any is seen twice, in a keyed pseudo-random order that needs no array. Batches are cut from a pool
of many batches sorted by length, so that sentences of a batch are about equally long.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ems_fast._batching import PairReader, permuted_rows
from ems_fast.batch import Batch
from ems_fast.corpus import BinaryCorpus
from ems_fast.distributed import Ranks
from ems_fast.errors import InputError
from ems_fast.ops import BagOfWords
from ems_fast.ops.bag_of_words import Weighting
from ems_fast.packing import assemble, positions_of

# Batches sorted by length together, at most: enough that lengths within a batch differ little, few
# enough that a pool is drawn in milliseconds.
POOL_BATCHES = 64


@dataclass(frozen=True)
class BatchConfig:
    """How batches are drawn.

    Attributes:
        batch_pairs: B, pairs of a step on each rank.
        sampling_exponent: a language pair of n pairs is drawn with probability ∝ n^exponent; 1
            follows the corpus, 0 treats language pairs alike.
        weighting: of the bags of words; see `BagOfWords`.
        seed: of everything that is drawn.
    """

    batch_pairs: int = field(default=256, metadata={"help": "pairs of a step on each rank"})
    sampling_exponent: float = field(
        default=0.5, metadata={"help": "language pairs are drawn ∝ size^exponent"}
    )
    weighting: Weighting = field(
        default="count", metadata={"help": "bags of words: count, distinct or released"}
    )
    seed: int = field(default=0, metadata={"help": "seed of sampling, initialisation and dropout"})

    def __post_init__(self) -> None:
        if self.batch_pairs < 1:
            raise InputError(f"batch_pairs: got {self.batch_pairs}, expected at least 1")
        if not 0.0 <= self.sampling_exponent <= 1.0:
            raise InputError(
                f"sampling_exponent: got {self.sampling_exponent}, expected between 0 and 1"
            )


class Rows(NamedTuple):
    """B pairs by place: shard int32 [B] and row within it int64 [B]."""

    shard: npt.NDArray[np.int32]
    row: npt.NDArray[np.int64]


class PairSampler:
    """An endless stream of global batches of rows; a pure function of seed and state.

    Args:
        reader: the shards.
        sizes: pairs of each shard.
        global_batch: pairs of a batch over all ranks.
        config: how to draw.
        state: what `state` returned, to go on from there.
    """

    def __init__(
        self,
        reader: PairReader,
        sizes: list[int],
        global_batch: int,
        config: BatchConfig,
        state: dict[str, Any] | None = None,
    ):
        self._reader = reader
        self._sizes = np.array(sizes, dtype=np.int64)
        weights = self._sizes.astype(np.float64) ** config.sampling_exponent
        self._probabilities = weights / weights.sum()
        self._global_batch = global_batch
        # No more than an epoch, so that a pair is not in the pool twice.
        self._pool_batches = min(POOL_BATCHES, max(1, sum(sizes) // global_batch))
        self._seed = config.seed
        self._pool = state["pool"] if state else 0
        self._batch = state["batch"] if state else 0
        self._consumed = np.array(state["consumed"] if state else [0] * len(sizes), dtype=np.int64)

    def __iter__(self) -> Iterator[tuple[Rows, dict[str, Any]]]:
        """Batches, each with the state from which its successor follows."""
        while True:
            batches, consumed = self._draw_pool()
            while self._batch < len(batches):
                batch = batches[self._batch]
                self._batch += 1
                yield batch, self._state()
            self._pool, self._batch, self._consumed = self._pool + 1, 0, consumed

    def _state(self) -> dict[str, Any]:
        return {
            "pool": self._pool,
            "batch": self._batch,
            "consumed": self._consumed.tolist(),
        }

    def _draw_pool(self) -> tuple[list[Rows], npt.NDArray[np.int64]]:
        rng = np.random.Generator(np.random.Philox(key=self._seed, counter=self._pool << 64))
        size = self._global_batch * self._pool_batches
        counts = rng.multinomial(size, self._probabilities)
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
        # Sorted by length, equals in random order; then whole batches in random order.
        by_length = np.lexsort((rng.permutation(size), lengths.sum(axis=0)))
        batches = by_length.reshape(self._pool_batches, self._global_batch)
        rng.shuffle(batches)
        return [Rows(shard[b], row[b]) for b in batches], self._consumed + counts


class BatchBuilder:
    """Turns rows into a `Batch`; nothing in it runs per sentence in Python.

    Args:
        corpus: where the rows are.
        weighting: of the bags of words.
    """

    def __init__(self, corpus: BinaryCorpus, weighting: Weighting):
        index = {language: i for i, language in enumerate(corpus.languages)}
        self.reader = PairReader([(s.tokens, s.offsets, s.hashes) for s in corpus.shards])
        self.sizes = [shard.num_pairs for shard in corpus.shards]
        # (shards, 2): the languages of the source and the target.
        self._languages = np.array(
            [[index[s.source], index[s.target]] for s in corpus.shards], dtype=np.int64
        )
        self._weighting = weighting

    def build(self, rows: Rows) -> Batch:
        """The batch of B rows."""
        B = len(rows.row)
        shard, row = np.tile(rows.shard, 2), np.tile(rows.row, 2)  # (2B,): sources, targets
        side = np.repeat(np.array([0, 1]), B)
        by_pair = np.empty((2, B), dtype=np.int64)
        self.reader.lengths(rows.shard, rows.row, by_pair)
        lengths = by_pair.ravel()

        by_length = np.argsort(lengths, kind="stable")
        sorted_lengths = lengths[by_length]
        ids = np.empty(int(lengths.sum()), dtype=np.int64)
        self.reader.tokens(shard[by_length], row[by_length], side[by_length], ids)
        sentences = assemble(ids, positions_of(sorted_lengths), sorted_lengths, by_length)

        translations = np.empty_like(ids)  # the other side of sentence 0, 1, …, 2B − 1
        self.reader.tokens(shard, row, 1 - side, translations)
        offsets = np.zeros(2 * B + 1, dtype=np.int64)
        np.cumsum(by_pair[::-1].ravel(), out=offsets[1:])
        targets = BagOfWords.from_packed(
            torch.from_numpy(translations), torch.from_numpy(offsets), weighting=self._weighting
        )

        hashes = np.empty((2, B), dtype=np.int64)
        self.reader.hashes(rows.shard, rows.row, hashes)
        languages = self._languages[rows.shard]  # (B, 2)
        return Batch(
            sentences,
            targets,
            torch.from_numpy(np.concatenate([languages[:, 1], languages[:, 0]])),
            torch.from_numpy(hashes[0]),
            torch.from_numpy(hashes[1]),
        )


def require_enough_pairs(corpus: BinaryCorpus, config: BatchConfig, ranks: Ranks) -> None:
    """Raise `InputError` if the corpus has less than two pairs, or than one batch of all ranks."""
    if corpus.num_pairs < 2:
        raise InputError(
            f"corpora: {corpus.num_pairs} pair is left to train on, expected at least 2; a "
            "sentence is told from others of its batch"
        )
    global_batch = config.batch_pairs * ranks.world
    if corpus.num_pairs < global_batch:
        raise InputError(
            f"batch_pairs: {global_batch} pairs a step, but the corpus has only "
            f"{corpus.num_pairs}; use a smaller batch or more text"
        )


class BatchStream:
    """Batches of this rank, one or two ahead of the step that needs them, made in a thread.

    Iterating gives (batch, state); a stream started with that state goes on with the next batch.

    Raises:
        InputError: the corpus has less than two pairs, or less than one batch over all ranks.
    """

    def __init__(
        self,
        corpus: BinaryCorpus,
        config: BatchConfig,
        ranks: Ranks,
        state: dict[str, Any] | None = None,
    ):
        require_enough_pairs(corpus, config, ranks)
        global_batch = config.batch_pairs * ranks.world
        self._builder = BatchBuilder(corpus, config.weighting)
        self._sampler = PairSampler(
            self._builder.reader, self._builder.sizes, global_batch, config, state
        )
        self._ranks = ranks
        self._queue: queue.Queue[tuple[Batch, dict[str, Any]] | BaseException] = queue.Queue(2)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, name="ems-fast batches", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[tuple[Batch, dict[str, Any]]]:
        while True:
            item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """Stop the thread."""
        self._closed.set()
        self._thread.join()

    def _fill(self) -> None:
        try:
            for rows, state in self._sampler:
                mine = slice(self._ranks.rank, None, self._ranks.world)
                batch = self._builder.build(
                    Rows(
                        np.ascontiguousarray(rows.shard[mine]), np.ascontiguousarray(rows.row[mine])
                    )
                )
                if self._ranks.device.type == "cuda":
                    batch = batch.pin_memory()
                if not self._put((batch, state)):
                    return
        except BaseException as error:
            self._put(error)

    def _put(self, item: tuple[Batch, dict[str, Any]] | BaseException) -> bool:
        """Wait for room; False when the stream was closed meanwhile."""
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False
