"""How batches are drawn, and what a batch of all ranks holds."""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ems_fast.corpus import BinaryCorpus
from ems_fast.errors import InputError, check
from ems_fast.ops.bag_of_words import Weighting

# Batches sorted by length together, at most: enough that lengths within a batch differ little, few
# enough that a pool is drawn in milliseconds.
POOL_BATCHES = 64
DEFAULT_PAIRS = 256
# Batches of a token budget have a multiple of so many pairs, that 1, 2, 4 or 8 ranks share alike.
PAIRS_MULTIPLE = 8
# The two ways to give the size of a batch.
SIZES = ("batch_pairs", "batch_tokens")


def gives_size(options: Mapping[str, Any]) -> bool:
    """Whether `options` say how large a batch is."""
    return any(options.get(name) is not None for name in SIZES)


@dataclass(frozen=True)
class BatchConfig:
    """How batches are drawn.

    Attributes:
        batch_pairs: B, pairs of a step on each rank; 256 where `batch_tokens` is not given either.
        batch_tokens: instead, most tokens of a step on each rank, both sides together, on the
            mean over ranks: a batch has more pairs the shorter they are.
        sampling_exponent: a language pair of n pairs is drawn with probability ∝ n^exponent; 1
            follows the corpus, 0 treats language pairs alike.
        sort_by_length: a batch has sentences of about one length; else of all lengths. Layers are
            computed faster so; a token table is not, and learns better from all lengths.
        weighting: of the bags of words; see `BagOfWords`.
        seed: of everything that is drawn.
    """

    batch_pairs: int | None = None
    batch_tokens: int | None = None
    sampling_exponent: float = 0.5
    sort_by_length: bool = True
    weighting: Weighting = "count"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_pairs is not None and self.batch_tokens is not None:
            raise InputError(
                f"batch_pairs, batch_tokens: got {self.batch_pairs} and {self.batch_tokens}; "
                "give one of them"
            )
        if self.batch_pairs is None and self.batch_tokens is None:
            object.__setattr__(self, "batch_pairs", DEFAULT_PAIRS)  # the dataclass is frozen
        for name in SIZES:
            value = getattr(self, name)
            check(value is None or value >= 1, name, value, "at least 1")
        exponent = self.sampling_exponent
        check(0.0 <= exponent <= 1.0, "sampling_exponent", exponent, "between 0 and 1")

    def global_batch(self, world: int) -> GlobalBatch:
        """What the batches of `world` ranks hold together."""
        if self.batch_tokens is not None:
            return GlobalBatch(None, self.batch_tokens * world, math.lcm(PAIRS_MULTIPLE, world))
        assert self.batch_pairs is not None
        return GlobalBatch(self.batch_pairs * world, None, 1)

    def require_enough_pairs(self, corpus: BinaryCorpus, world: int) -> None:
        """Raise `InputError` if the corpus has less than two pairs, or than one batch of all ranks.

        With a budget of tokens, that must hold some pairs of the longest sentences.
        """
        if corpus.num_pairs < 2:
            raise InputError(
                f"corpora: {corpus.num_pairs} pair is left to train on, expected at least 2; a "
                "sentence is told from others of its batch"
            )
        batch = self.global_batch(world)
        least = batch.pairs or batch.multiple
        if corpus.num_pairs < least:
            name, at_least = ("batch_pairs", "") if batch.pairs else ("batch_tokens", " at least")
            raise InputError(
                f"{name}: {least} pairs a step{at_least}, but the corpus has only "
                f"{corpus.num_pairs}; use a smaller batch or more text"
            )
        longest = 2 * corpus.max_tokens * batch.multiple
        if batch.tokens is not None and batch.tokens < longest:
            raise InputError(
                f"batch_tokens: got {self.batch_tokens}, expected at least "
                f"{-(-longest // world)}: a step has a multiple of {batch.multiple} pairs, and "
                f"a sentence up to {corpus.max_tokens} tokens"
            )

    def for_corpus(self, num_pairs: int, world: int) -> BatchConfig:
        """The same, or batches of an eighth of a small corpus of `num_pairs`."""
        if self.batch_pairs is None:
            return self
        most = max(2, num_pairs // (8 * world))
        return replace(self, batch_pairs=min(self.batch_pairs, most))

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
    """What a batch of all ranks holds: a number of `pairs`, or at most a number of `tokens`.

    The other is None then; the number of pairs is a `multiple` in any case.
    """

    pairs: int | None
    tokens: int | None
    multiple: int

    def __str__(self) -> str:
        return f"{self.pairs:,} pairs" if self.pairs else f"at most {self.tokens:,} tokens"

    def pool_pairs(self, num_pairs: int, mean_tokens: float) -> int:
        """Pairs that are sorted by length together; `mean_tokens` is that of a pair.

        No more than the corpus has, or a pair would be among them twice.
        """
        if self.pairs is not None:
            return self.pairs * min(POOL_BATCHES, max(1, num_pairs // self.pairs))
        assert self.tokens is not None
        wanted = min(num_pairs, int(POOL_BATCHES * self.tokens / mean_tokens))
        return max(self.multiple, wanted // self.multiple * self.multiple)

    def cut(self, tokens: npt.NDArray[np.int64]) -> list[slice]:
        """A pool's batches, as slices of the pairs of the given lengths."""
        n = len(tokens)
        if self.pairs is not None:
            return [slice(start, start + self.pairs) for start in range(0, n, self.pairs)]
        assert self.tokens is not None
        # Tokens of the first 1, 2, … units of `multiple` pairs.
        ends = np.cumsum(tokens)[self.multiple - 1 :: self.multiple]
        # The smallest budget that needs no more batches than ours, so that none is a mere rest.
        number = len(_fill(ends, self.tokens))
        budgets = range(-(-int(ends[-1]) // number), self.tokens + 1)
        enough = bisect.bisect_left(budgets, True, key=lambda b: len(_fill(ends, b)) <= number)
        bounds = [0, *(self.multiple * unit for unit in _fill(ends, budgets[enough]))]
        return [slice(a, b) for a, b in itertools.pairwise(bounds)]


def _fill(ends: npt.NDArray[np.int64], budget: int) -> list[int]:
    """Where batches of whole units end, each as full as `budget` allows, at least one unit.

    The units' costs, summed up, are `ends`.
    """
    found: list[int] = []
    unit, spent = 0, 0
    while unit < len(ends):
        unit = max(unit + 1, int(np.searchsorted(ends, spent + budget, side="right")))
        spent = int(ends[unit - 1])
        found.append(unit)
    return found
