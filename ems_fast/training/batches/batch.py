"""One training step's worth of pairs, as tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ems_fast.model.packing import Packed
from ems_fast.ops import BagOfWords


@dataclass(frozen=True)
class Batch:
    """B pairs, as 2B sentences: the sources in order, then the targets.

    Attributes:
        sentences: the 2B sentences.
        targets: row k is the bag of words of the translation of sentence k.
        target_languages: int64 [2B], the language of the translation of sentence k.
        source_ids: int64 [B], hashes of the source texts.
        target_ids: int64 [B], hashes of the target texts.
    """

    sentences: Packed
    targets: BagOfWords
    target_languages: Tensor
    source_ids: Tensor
    target_ids: Tensor

    @property
    def num_pairs(self) -> int:
        """B."""
        return self.source_ids.numel()

    @property
    def num_tokens(self) -> int:
        """N, of both sides."""
        return self.sentences.ids.numel()

    def pin_memory(self) -> Batch:
        """The same pairs in page-locked memory, from where a GPU copies asynchronously."""
        return Batch(
            self.sentences.pin_memory(),
            BagOfWords(
                self.targets.indptr.pin_memory(),
                self.targets.indices.pin_memory(),
                self.targets.weights.pin_memory(),
            ),
            self.target_languages.pin_memory(),
            self.source_ids.pin_memory(),
            self.target_ids.pin_memory(),
        )

    def to(self, device: torch.device) -> Batch:
        """The same pairs on `device`; from pinned memory the copies are asynchronous."""
        if device.type == "cpu":
            return self
        return Batch(
            self.sentences.to(device, non_blocking=True),
            self.targets.to(device, non_blocking=True),
            self.target_languages.to(device, non_blocking=True),
            self.source_ids.to(device, non_blocking=True),
            self.target_ids.to(device, non_blocking=True),
        )
