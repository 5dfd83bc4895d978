"""Sparse bags of words: the targets of cross-lingual token-level reconstruction."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from ems_fast.errors import InputError, check_one_of
from ems_fast.ops.native import import_error, kernels

Weighting = Literal["count", "distinct", "released"]
WEIGHTINGS: tuple[str, ...] = get_args(Weighting)


@dataclass(frozen=True)
class BagOfWords:
    """B sparse rows over the vocabulary, in compressed-sparse-row (CSR) form.

    Attributes:
        indptr: int64 [B + 1]; row i holds entries ``indptr[i]:indptr[i + 1]``.
        indices: int64 [K]; the token ids of a row, distinct and ascending.
        weights: float32 [K]; non-negative. A row need not sum to 1.
        by_word: what `sorted_by_word` adds, None without it: of the entries in ascending order of
            their words the words, where the entries of the same word end, rows, and places in
            `indices`; int64 [4, K].
    """

    indptr: Tensor
    indices: Tensor
    weights: Tensor
    by_word: Tensor | None = None

    def __len__(self) -> int:
        return self.indptr.numel() - 1

    def to(self, device: torch.device | str, non_blocking: bool = False) -> BagOfWords:
        """The same bags on `device`; `non_blocking` copies from pinned memory are asynchronous."""
        return BagOfWords(
            self.indptr.to(device, non_blocking=non_blocking),
            self.indices.to(device, non_blocking=non_blocking),
            self.weights.to(device, non_blocking=non_blocking),
            None if self.by_word is None else self.by_word.to(device, non_blocking=non_blocking),
        )

    def sorted_by_word(self) -> BagOfWords:
        """The same bags, with `by_word`; without it a GPU sorts at every backward of XTR."""
        return replace(self, by_word=entries_by_word(self.indptr, self.indices))

    @classmethod
    def from_packed(
        cls,
        ids: Tensor,
        offsets: Tensor,
        weighting: Weighting = "count",
        *,
        vocab_size: int | None = None,
    ) -> BagOfWords:
        """Count the tokens of B packed sentences.

        Args:
            ids: int32 or int64 [N], the sentences' tokens one after another.
            offsets: int32 or int64 [B + 1], ascending; sentence i is
                ``ids[offsets[i]:offsets[i + 1]]``.
            weighting: ``count``: n_w / T, a distribution; ``distinct``: 1 / (number of distinct
                tokens); ``released``: 1 / T for each distinct token, as the authors' released
                code has it, which sums to less than 1 when a token repeats.
            vocab_size: V; then ids must be below it. They may never be negative.

        Raises:
            InputError: shapes, dtypes, offsets or ids that do not fit; the message says where.
        """
        _check_ids(ids, dim=1)
        _check_integers("offsets", offsets)
        if offsets.dim() != 1 or offsets.numel() == 0:
            raise InputError(
                f"offsets: shape {tuple(offsets.shape)}, expected [B + 1], one more than sentences"
            )
        offsets = offsets.to(torch.int64).contiguous()
        first, end, descends = int(offsets[0]), int(offsets[-1]), _descends(offsets)
        if first < 0 or end > ids.numel() or descends:
            raise InputError(
                f"offsets: must ascend from at least 0 to at most the {ids.numel()} tokens of ids, "
                f"got {first} to {end}{', not ascending' if descends else ''}"
            )
        return cls._count(ids, offsets, offsets.diff(), end - first, weighting, vocab_size)

    @classmethod
    def from_padded(
        cls,
        ids: Tensor,
        lengths: Tensor,
        weighting: Weighting = "count",
        *,
        vocab_size: int | None = None,
    ) -> BagOfWords:
        """Count the tokens of B padded sentences.

        Args:
            ids: int32 or int64 [B, T].
            lengths: int32 or int64 [B]; only the first ``lengths[i]`` tokens of row i count.
            weighting: as in `from_packed`.
            vocab_size: as in `from_packed`.

        Raises:
            InputError: shapes, dtypes, lengths or ids that do not fit; the message says where.
        """
        _check_ids(ids, dim=2)
        _check_integers("lengths", lengths)
        B, T = ids.shape
        if lengths.shape != (B,):
            raise InputError(
                f"lengths: shape {tuple(lengths.shape)}, expected [{B}], one per row of ids"
            )
        lengths = lengths.to(torch.int64).contiguous()
        wrong = (lengths < 0) | (lengths > T)
        if bool(wrong.any()):
            row = int(wrong.nonzero()[0, 0])
            raise InputError(
                f"lengths: row {row} has length {int(lengths[row])}, expected 0 to T = {T}"
            )
        begins = torch.arange(B) * T
        return cls._count(ids, begins, lengths, int(lengths.sum()), weighting, vocab_size)

    @classmethod
    def _count(
        cls,
        ids: Tensor,
        begins: Tensor,
        lengths: Tensor,
        room: int,
        weighting: Weighting,
        vocab_size: int | None,
    ) -> BagOfWords:
        check_one_of("weighting", weighting, WEIGHTINGS)
        if vocab_size is not None and vocab_size < 1:
            raise InputError(f"vocab_size: got {vocab_size}, expected at least 1")
        ids, B = ids.contiguous(), lengths.numel()
        indptr = torch.empty(B + 1, dtype=torch.int64)
        indices = torch.empty(room, dtype=torch.int64)
        weights = torch.empty(room, dtype=torch.float32)
        entries, row, position = kernels().bag_of_words(
            indptr, indices, weights, ids, begins, lengths, ids.dtype == torch.int64,
            WEIGHTINGS.index(weighting), -1 if vocab_size is None else vocab_size, B,
        )  # fmt: skip
        if entries < 0:
            at = int(begins[row]) + position
            allowed = "0 or more" if vocab_size is None else f"0 to {vocab_size - 1}"
            raise InputError(
                f"ids: sentence {row} has id {int(ids.view(-1)[at])} at position {position}, "
                f"expected {allowed}"
            )
        if entries < room:  # Do not hold on to the room of repeated tokens.
            indices, weights = indices[:entries].clone(), weights[:entries].clone()
        return cls(indptr, indices, weights)

    def check(self, vocab_size: int) -> None:
        """Raise `InputError` unless this is a valid CSR matrix over `vocab_size` tokens.

        What `from_packed` and `from_padded` return with the same `vocab_size` always is.
        """
        for name, tensor, dtype in (
            ("indptr", self.indptr, torch.int64),
            ("indices", self.indices, torch.int64),
            ("weights", self.weights, torch.float32),
        ):
            if tensor.dtype != dtype or tensor.dim() != 1:
                raise InputError(
                    f"targets.{name}: {str(tensor.dtype)[6:]} {list(tensor.shape)}, expected a "
                    f"vector of {str(dtype)[6:]}"
                )
        K = self.indices.numel()
        if self.weights.numel() != K:
            raise InputError(f"targets.weights: {self.weights.numel()} for {K} indices")
        if self.indptr.numel() == 0:
            raise InputError("targets.indptr: empty, expected B + 1 positions")
        # One pass in a few microseconds for every step's bags; what follows finds the words for it.
        on_cpu = self.indptr.is_cpu and self.indices.is_cpu and self.weights.is_cpu
        if on_cpu and import_error() is None and kernels().bag_of_words_is_valid(
            self.indptr.contiguous(), self.indices.contiguous(), self.weights.contiguous(),
            len(self), vocab_size, K,
        ):  # fmt: skip
            return
        first, end = int(self.indptr[0]), int(self.indptr[-1])
        if first != 0 or end != K or _descends(self.indptr):
            raise InputError(
                f"targets.indptr: must ascend from 0 to the {K} entries, got {first} to {end}"
            )
        if K == 0:
            return
        low, high = (int(x) for x in self.indices.aminmax())
        if low < 0 or high >= vocab_size:
            raise InputError(
                f"targets.indices: id {low if low < 0 else high} is outside of the vocabulary, "
                f"expected 0 to {vocab_size - 1} (the rows of weight)"
            )
        least, most = (float(x) for x in self.weights.aminmax())
        if not (least >= 0 and most < float("inf")):
            bad = least if not least >= 0 else most
            raise InputError(f"targets.weights: {bad}, expected finite and non-negative weights")


def entries_by_word(indptr: Tensor, indices: Tensor) -> Tensor:
    """`BagOfWords.by_word`, made on the bags' device without waiting for it."""
    # Stable, so that a word's rows ascend and its sum has one order.
    words, order = torch.sort(indices, stable=True)
    ends = torch.searchsorted(words, words, right=True)
    # The number of entries is known without waiting, and is in bounds whatever indptr holds.
    entries = torch.arange(indices.numel(), device=indices.device)
    rows = torch.searchsorted(indptr.contiguous(), entries, right=True) - 1
    return torch.stack([words, ends, rows[order], order])


def _descends(positions: Tensor) -> bool:
    return bool((positions[1:] < positions[:-1]).any())  # a difference might wrap


def _check_integers(name: str, tensor: Tensor) -> None:
    if tensor.dtype not in (torch.int32, torch.int64):
        raise InputError(f"{name}: dtype {str(tensor.dtype)[6:]}, expected int32 or int64")
    if tensor.device.type != "cpu":
        raise InputError(
            f"{name}: on {tensor.device}, expected a CPU tensor: count there, then use .to(device)"
        )


def _check_ids(ids: Tensor, dim: int) -> None:
    _check_integers("ids", ids)
    if ids.dim() != dim:
        expected = "[N] packed tokens" if dim == 1 else "[B, T] padded tokens"
        raise InputError(f"ids: shape {tuple(ids.shape)}, expected {expected}")
