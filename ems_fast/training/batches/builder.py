"""From rows of a memory-mapped corpus to the tensors of a batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ems_fast._batching import PairReader
from ems_fast.corpus import BinaryCorpus
from ems_fast.model.packing import assemble, positions_of
from ems_fast.ops.bag_of_words import BagOfWords, Weighting
from ems_fast.training.batches.batch import Batch
from ems_fast.training.batches.sampler import Rows

ALL = slice(None)


class BatchBuilder:
    """Turns rows into a `Batch`; nothing in it runs per sentence in Python.

    `teacher` are vectors [n, W] of the corpus's pairs, shard after shard.
    """

    def __init__(
        self,
        corpus: BinaryCorpus,
        weighting: Weighting,
        teacher: npt.NDArray[Any] | None = None,
    ):
        index = {language: i for i, language in enumerate(corpus.languages)}
        self.reader = PairReader(
            [(s.tokens, s.offsets, s.hashes) for s in corpus.shards], corpus.vocab_size
        )
        self.sizes = [shard.num_pairs for shard in corpus.shards]
        self.tokens = [shard.num_tokens for shard in corpus.shards]
        # (shards, 2): the languages of the source and the target.
        self._languages = np.array(
            [[index[s.source], index[s.target]] for s in corpus.shards], dtype=np.int64
        )
        self._weighting = weighting
        self._teacher = teacher
        self._first = np.cumsum([0, *self.sizes[:-1]])  # (shards,): the first pair of each

    def build(self, rows: Rows, targets: slice = ALL) -> Batch:
        """The batch of B rows, with bags of words of `targets` among its 2B sentences."""
        B = len(rows.row)
        both = Rows(np.tile(rows.shard, 2), np.tile(rows.row, 2))  # (2B,): sources, targets
        side = np.repeat(np.array([0, 1]), B)
        by_pair = np.empty((2, B), dtype=np.int64)
        self.reader.lengths(rows.shard, rows.row, by_pair)
        lengths = by_pair.ravel()

        by_length = np.argsort(lengths, kind="stable")
        sorted_lengths = lengths[by_length]
        ids = np.empty(int(lengths.sum()), dtype=np.int64)
        self.reader.tokens(both.shard[by_length], both.row[by_length], side[by_length], ids)
        sentences = assemble(ids, positions_of(sorted_lengths), sorted_lengths, by_length)

        hashes = np.empty((2, B), dtype=np.int64)
        self.reader.hashes(rows.shard, rows.row, hashes)
        languages = self._languages[rows.shard]  # (B, 2)
        return Batch(
            sentences,
            self._targets(both, by_pair[::-1].ravel(), targets),
            torch.from_numpy(np.concatenate([languages[:, 1], languages[:, 0]])),
            torch.from_numpy(hashes[0]),
            torch.from_numpy(hashes[1]),
            None if targets == ALL else torch.arange(2 * B)[targets],
            self._taught(rows),
        )

    def _taught(self, rows: Rows) -> torch.Tensor | None:
        if self._teacher is None:
            return None
        return torch.from_numpy(
            self._teacher[self._first[rows.shard] + rows.row].astype(np.float32)
        )

    def _targets(self, both: Rows, lengths: npt.NDArray[np.int64], chosen: slice) -> BagOfWords:
        """The other sides of those `chosen` among 2B sentences, as bags of words.

        `lengths` are those of all 2B other sides.
        """
        side = np.repeat(np.array([1, 0]), len(lengths) // 2)[chosen]
        offsets = np.concatenate([[0], np.cumsum(lengths[chosen])])
        translations = np.empty(int(offsets[-1]), dtype=np.int64)
        shard, row = both.shard[chosen], both.row[chosen]
        self.reader.tokens(
            np.ascontiguousarray(shard), np.ascontiguousarray(row), np.ascontiguousarray(side),
            translations,
        )  # fmt: skip
        return BagOfWords.from_packed(
            torch.from_numpy(translations), torch.from_numpy(offsets), weighting=self._weighting
        )
