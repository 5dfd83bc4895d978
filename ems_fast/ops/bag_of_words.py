"""Sparse bags of words: the targets of cross-lingual token-level reconstruction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ems_fast.errors import InputError

Weighting = Literal["count", "distinct", "released"]
WEIGHTINGS: tuple[str, ...] = get_args(Weighting)


@dataclass(frozen=True)
class BagOfWords:
    """B sparse rows over the vocabulary, in compressed-sparse-row (CSR) form.

    Attributes:
        indptr: int64 [B + 1]; row i holds entries ``indptr[i]:indptr[i + 1]``.
        indices: int64 [K]; the token ids of a row, distinct and ascending.
        weights: float32 [K]; non-negative. A row need not sum to 1.
    """

    indptr: Tensor
    indices: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return self.indptr.numel() - 1

    def to(self, device: torch.device | str) -> BagOfWords:
        """The same bags on `device`."""
        return BagOfWords(
            self.indptr.to(device), self.indices.to(device), self.weights.to(device)
        )

    @classmethod
    def from_packed(
        cls, ids: Tensor, offsets: Tensor, weighting: Weighting = "count"
    ) -> BagOfWords:
        """Count the tokens of B packed sentences.

        Args:
            ids: int32 or int64 [N], the sentences' tokens one after another.
            offsets: int64 [B + 1]; sentence i is ``ids[offsets[i]:offsets[i + 1]]``.
            weighting: ``count``: n_w / T, a distribution; ``distinct``: 1 / (number of distinct
                tokens); ``released``: 1 / T for each distinct token, as the authors' released
                code has it, which sums to less than 1 when a token repeats.
        """
        if weighting not in WEIGHTINGS:
            raise InputError(
                f"weighting: got {weighting!r}, expected one of "
                f"{', '.join(map(repr, WEIGHTINGS))}"
            )
        B = offsets.numel() - 1
        lengths = offsets.diff()
        rows = torch.repeat_interleave(torch.arange(B), lengths)
        keys = torch.stack([rows, ids.long()])
        unique, counts = torch.unique(keys, dim=1, return_counts=True)
        distinct = torch.bincount(unique[0], minlength=B)
        indptr = torch.zeros(B + 1, dtype=torch.int64)
        indptr[1:] = distinct.cumsum(0)
        row = unique[0]
        if weighting == "count":
            weights = counts.double() / lengths[row]
        elif weighting == "distinct":
            weights = 1.0 / distinct[row].double()
        else:
            weights = 1.0 / lengths[row].double()
        return cls(indptr, unique[1].contiguous(), weights.float())

    @classmethod
    def from_padded(
        cls, ids: Tensor, lengths: Tensor, weighting: Weighting = "count"
    ) -> BagOfWords:
        """Count the tokens of B padded sentences: ids [B, T], of which row i has ``lengths[i]``."""
        mask = torch.arange(ids.shape[1]) < lengths[:, None]
        offsets = torch.zeros(len(lengths) + 1, dtype=torch.int64)
        offsets[1:] = lengths.cumsum(0)
        return cls.from_packed(ids[mask], offsets, weighting)
