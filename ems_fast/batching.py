"""From a memory-mapped corpus to batches: which pairs come next, and their tensors.

Language pairs are drawn with probability ∝ n^exponent. Within one, every pair is seen once before
any is seen twice, in a keyed pseudo-random order that needs no array. Batches are cut from a pool
of many batches sorted by length, so that sentences of a batch are about equally long. A batch has
a fixed number of pairs, or as many as a budget of tokens holds; either is decided for all ranks
together, which then take equally many pairs each, so that means over ranks are means over pairs.
"""

from __future__ import annotations

import itertools
import math
import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
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
DEFAULT_PAIRS = 256
# Batches of a token budget have a multiple of so many pairs, that 1, 2, 4 or 8 ranks share alike.
PAIRS_MULTIPLE = 8


@dataclass(frozen=True)
class BatchConfig:
    """How batches are drawn.

    Attributes:
        batch_pairs: B, pairs of a step on each rank; 256 where `batch_tokens` is not given either.
        batch_tokens: instead, most tokens of a step on each rank, both sides together, on the
            mean over ranks: a batch has more pairs the shorter they are.
        sampling_exponent: a language pair of n pairs is drawn with probability ∝ n^exponent; 1
            follows the corpus, 0 treats language pairs alike.
        weighting: of the bags of words; see `BagOfWords`.
        seed: of everything that is drawn.
    """

    batch_pairs: int | None = field(
        default=None,
        metadata={
            "help": f"pairs of a step on each rank; default: {DEFAULT_PAIRS} unless batch_tokens"
        },
    )
    batch_tokens: int | None = field(
        default=None, metadata={"help": "or: most tokens of a step on each rank, both sides"}
    )
    sampling_exponent: float = field(
        default=0.5, metadata={"help": "language pairs are drawn ∝ size^exponent"}
    )
    weighting: Weighting = field(
        default="count", metadata={"help": "bags of words: count, distinct or released"}
    )
    seed: int = field(default=0, metadata={"help": "seed of sampling, initialisation and dropout"})

    def __post_init__(self) -> None:
        if self.batch_pairs is not None and self.batch_tokens is not None:
            raise InputError(
                f"batch_pairs, batch_tokens: got {self.batch_pairs} and {self.batch_tokens}; "
                "give one of them"
            )
        if self.batch_pairs is None and self.batch_tokens is None:
            object.__setattr__(self, "batch_pairs", DEFAULT_PAIRS)  # the dataclass is frozen
        for name in ("batch_pairs", "batch_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name}: got {value}, expected at least 1")
        if not 0.0 <= self.sampling_exponent <= 1.0:
            raise InputError(
                f"sampling_exponent: got {self.sampling_exponent}, expected between 0 and 1"
            )

    def global_batch(self, world: int) -> GlobalBatch:
        """What the batches of `world` ranks hold together."""
        if self.batch_tokens is not None:
            return GlobalBatch(None, self.batch_tokens * world, math.lcm(PAIRS_MULTIPLE, world))
        assert self.batch_pairs is not None
        return GlobalBatch(self.batch_pairs * world, None, 1)

    def for_ranks(self, world: int, before: int) -> BatchConfig:
        """The same global batch on `world` ranks instead of `before`.

        Raises:
            InputError: it cannot be shared alike.
        """
        name = "batch_pairs" if self.batch_pairs is not None else "batch_tokens"
        total = getattr(self, name) * before
        if total % world:
            raise InputError(
                f"{name}: the run has {total} a step over {before} ranks, which {world} ranks "
                f"cannot share alike; give {name} (for a batch of another size) or another number "
                "of processes"
            )
        return replace(self, **{name: total // world})


@dataclass(frozen=True)
class GlobalBatch:
    """What a batch of all ranks holds: a number of pairs, or at most a number of tokens.

    Attributes:
        pairs: pairs of every batch; None with a budget.
        tokens: the budget; None with a number of pairs.
        multiple: the number of pairs is a multiple of it.
    """

    pairs: int | None
    tokens: int | None
    multiple: int

    def __str__(self) -> str:
        return f"{self.pairs:,} pairs" if self.pairs else f"at most {self.tokens:,} tokens"

    def pool_pairs(self, num_pairs: int, mean_tokens: float) -> int:
        """Pairs that are sorted by length together.

        Args:
            num_pairs: of the corpus; a pool has no more, or a pair would be in it twice.
            mean_tokens: of a pair.
        """
        if self.pairs is not None:
            return self.pairs * min(POOL_BATCHES, max(1, num_pairs // self.pairs))
        assert self.tokens is not None
        wanted = min(num_pairs, int(POOL_BATCHES * self.tokens / mean_tokens))
        return max(self.multiple, wanted // self.multiple * self.multiple)

    def cut(self, tokens: npt.NDArray[np.int64]) -> list[slice]:
        """A pool's batches, as slices of the pairs of the given lengths, ascending."""
        n = len(tokens)
        if self.pairs is not None:
            return [slice(start, start + self.pairs) for start in range(0, n, self.pairs)]
        assert self.tokens is not None
        # Tokens of the first 1, 2, … units of `multiple` pairs.
        ends = np.cumsum(tokens)[self.multiple - 1 :: self.multiple]
        # The smallest budget that needs no more batches than ours, so that none is a mere rest.
        number = len(_fill(ends, self.tokens))
        low, high = -(-int(ends[-1]) // number), self.tokens
        while low < high:
            middle = (low + high) // 2
            if len(_fill(ends, middle)) <= number:
                high = middle
            else:
                low = middle + 1
        bounds = [0, *(self.multiple * unit for unit in _fill(ends, high))]
        return [slice(a, b) for a, b in itertools.pairwise(bounds)]


def _fill(ends: npt.NDArray[np.int64], budget: int) -> list[int]:
    """Where batches of whole units end, each as full as `budget` allows, at least one unit.

    Args:
        ends: int64 [n], the units' costs summed up.
        budget: most that a batch may cost.
    """
    found: list[int] = []
    unit, spent = 0, 0
    while unit < len(ends):
        unit = max(unit + 1, int(np.searchsorted(ends, spent + budget, side="right")))
        spent = int(ends[unit - 1])
        found.append(unit)
    return found


class Rows(NamedTuple):
    """B pairs by place: shard int32 [B] and row within it int64 [B]."""

    shard: npt.NDArray[np.int32]
    row: npt.NDArray[np.int64]


class PairSampler:
    """An endless stream of global batches of rows; a pure function of seed and state.

    A state of batches of another size is continued with the next pool: what its pool had left is
    passed over until the next epoch.

    Args:
        reader: the shards.
        sizes: pairs of each shard.
        tokens: tokens of each shard.
        batch: what a batch over all ranks holds.
        config: how to draw.
        state: what came with a batch, to go on behind it.
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
        self._pool = state["pool"] if state else 0
        self._batch = state["batch"] if state else 0
        self._consumed = np.array(state["consumed"] if state else [0] * len(sizes), dtype=np.int64)
        if state and state.get("cuts", self._cut_as()) != self._cut_as():
            counts = self._counts(self._random(), state["cuts"]["pool_pairs"])
            self._pool, self._batch, self._consumed = self._pool + 1, 0, self._consumed + counts

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
            "cuts": self._cut_as(),
        }

    def _cut_as(self) -> dict[str, Any]:
        """What a pool's batches depend on besides the seed."""
        return {**asdict(self._cuts), "pool_pairs": self._pool_pairs}

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
        by_length = np.lexsort((rng.permutation(size), tokens))
        cuts = self._cuts.cut(tokens[by_length])
        batches = [by_length[cuts[index]] for index in rng.permutation(len(cuts)).tolist()]
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
        self.tokens = [shard.num_tokens for shard in corpus.shards]
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
    """Raise `InputError` if the corpus has less than two pairs, or than one batch of all ranks.

    With a budget of tokens, that must hold some pairs of the longest sentences.
    """
    if corpus.num_pairs < 2:
        raise InputError(
            f"corpora: {corpus.num_pairs} pair is left to train on, expected at least 2; a "
            "sentence is told from others of its batch"
        )
    batch = config.global_batch(ranks.world)
    least = batch.pairs or batch.multiple
    if corpus.num_pairs < least:
        name = "batch_pairs" if batch.pairs else "batch_tokens"
        raise InputError(
            f"{name}: {least} pairs a step{'' if batch.pairs else ' at least'}, but the corpus has "
            f"only {corpus.num_pairs}; use a smaller batch or more text"
        )
    longest = 2 * corpus.max_tokens * batch.multiple
    if batch.tokens is not None and batch.tokens < longest:
        raise InputError(
            f"batch_tokens: got {config.batch_tokens}, expected at least "
            f"{-(-longest // ranks.world)}: a step has a multiple of {batch.multiple} pairs, and "
            f"a sentence up to {corpus.max_tokens} tokens"
        )


class BatchStream:
    """Batches of this rank, one or two ahead of the step that needs them, made in a thread.

    Iterating gives (batch, state); a stream started with that state goes on with the next batch.

    Raises:
        InputError: see `require_enough_pairs`.
    """

    def __init__(
        self,
        corpus: BinaryCorpus,
        config: BatchConfig,
        ranks: Ranks,
        state: dict[str, Any] | None = None,
    ):
        require_enough_pairs(corpus, config, ranks)
        self._builder = BatchBuilder(corpus, config.weighting)
        self._sampler = PairSampler(
            self._builder.reader,
            self._builder.sizes,
            self._builder.tokens,
            config.global_batch(ranks.world),
            config,
            state,
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
