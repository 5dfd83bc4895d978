"""One training step's worth of pairs, as tensors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ems_fast.model.packing import Packed, map_tensors
from ems_fast.ops.bag_of_words import BagOfWords


@dataclass(frozen=True)
class Batch:
    """B pairs, as 2B sentences: the sources in order, then the targets.

    Attributes:
        sentences: the 2B sentences.
        targets: row k is the bag of words of the translation of sentence k, or of sentence
            ``target_rows[k]``.
        target_languages: int64 [2B], the language of the translation of sentence k.
        source_hashes: int64 [B], hashes of the source texts.
        target_hashes: int64 [B], hashes of the target texts.
        target_rows: int64 [n], where not all sentences have a bag of words: those that do.
        teacher: float32 [B, W], what a teacher makes of the pairs; None without one.
    """

    sentences: Packed
    targets: BagOfWords
    target_languages: Tensor
    source_hashes: Tensor
    target_hashes: Tensor
    target_rows: Tensor | None = None
    teacher: Tensor | None = None

    @property
    def num_pairs(self) -> int:
        """B."""
        return self.source_hashes.numel()

    @property
    def num_tokens(self) -> int:
        """N, of both sides."""
        return self.sentences.ids.numel()

    def with_targets(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """Of tensors [2B, ...] the rows of sentences whose bag of words is in `targets`."""
        rows = self.target_rows
        return tensors if rows is None else tuple(t.index_select(0, rows) for t in tensors)

    def staged(self) -> Batch:
        """The same pairs for a GPU: in page-locked memory, from where it copies asynchronously.

        Targets are sorted by word here, in many small passes that would be launches there.
        """
        return map_tensors(replace(self, targets=self.targets.sorted_by_word()), Tensor.pin_memory)

    def to(self, device: torch.device) -> Batch:
        """The same pairs on `device`; from pinned memory the copies are asynchronous."""
        return map_tensors(self, lambda tensor: tensor.to(device, non_blocking=True))
