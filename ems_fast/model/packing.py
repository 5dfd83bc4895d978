"""Sentences without padding: tokens of a batch one after another, sentences of one length together.

Token-wise layers run over the N packed tokens. Attention and pooling run over groups of sentences
of equal length, which are contiguous because sentences are sorted by length: a group is a view
[n, T, ·], needs no mask, and a sentence's vector cannot depend on its neighbours' lengths.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Ints = npt.NDArray[np.int64]
Value = TypeVar("Value")


@dataclass(frozen=True)
class Packed:
    """B non-empty sentences, sorted by length.

    Attributes:
        ids: int64 [N], token ids.
        positions: int64 [N], counted from 1 within each sentence.
        groups: runs of equal length as (sentences, tokens per sentence), ascending in tokens.
        order: int64 [B]; the caller's sentence i is packed sentence ``order[i]``.
        offsets: int32 [B + 1]; packed sentence j is tokens ``offsets[j]:offsets[j + 1]``.
    """

    ids: Tensor
    positions: Tensor
    groups: tuple[tuple[int, int], ...]
    order: Tensor
    offsets: Tensor

    @property
    def num_sentences(self) -> int:
        """B."""
        return self.order.numel()

    @property
    def longest(self) -> int:
        """Tokens of the longest sentence."""
        return self.groups[-1][1]

    def lengths(self) -> Tensor:
        """Tokens of every packed sentence, int64 [B], on the sentences' device."""
        return self.offsets.diff().to(torch.int64)

    def to(self, device: torch.device, non_blocking: bool = False) -> Packed:
        """The same sentences on `device`."""
        return map_tensors(self, lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def views(self, rows: Tensor) -> list[Tensor]:
        """Rows [N, ·] of the tokens as a view [n, T, ·] of every group."""
        parts = torch.split(rows, [n * T for n, T in self.groups])
        return [part.view(n, T, -1) for part, (n, T) in zip(parts, self.groups, strict=True)]

    def split(self, tokens: int) -> list[Packed]:
        """The packed sentences in order, in slices of at most `tokens` tokens or one sentence."""
        parts: list[list[int]] = []  # lengths of the sentences of each
        room = 0
        for length in (T for n, T in self.groups for _ in range(n)):
            if not parts or room < length:
                parts.append([])
                room = tokens
            parts[-1].append(length)
            room -= length
        slices, first, sentence = [], 0, 0
        for part in parts:
            ids, positions = (t[first : first + sum(part)] for t in (self.ids, self.positions))
            groups = tuple((len(list(run)), T) for T, run in itertools.groupby(part))
            order = torch.arange(len(part), device=self.order.device)
            end = sentence + len(part) + 1
            offsets = self.offsets[sentence:end] - first
            slices.append(Packed(ids, positions, groups, order, offsets))
            first += sum(part)
            sentence += len(part)
        return slices


def map_tensors(value: Value, change: Callable[[Tensor], Tensor]) -> Value:
    """A dataclass whose tensors are changed, those of the dataclasses in it too."""
    changed: Any = value
    if isinstance(value, Tensor):
        changed = change(value)
    elif is_dataclass(value) and not isinstance(value, type):
        parts = {part.name: getattr(value, part.name) for part in fields(value)}
        changed = replace(value, **{k: map_tensors(v, change) for k, v in parts.items()})
    return cast(Value, changed)


def positions_of(sorted_lengths: Ints) -> Ints:
    """1, 2, …, T for every sentence, concatenated."""
    starts = np.cumsum(sorted_lengths) - sorted_lengths
    total = int(sorted_lengths.sum())
    return np.arange(1, total + 1, dtype=np.int64) - np.repeat(starts, sorted_lengths)


def pack(ids: Ints, starts: Ints, lengths: Ints) -> Packed:
    """Copy B sentences out of a flat array, sorted by length.

    Sentence i is ``ids[starts[i]:starts[i] + lengths[i]]``, not empty.
    """
    by_length = np.argsort(lengths, kind="stable")
    sorted_lengths = lengths[by_length]
    positions = positions_of(sorted_lengths)
    gather = np.repeat(starts[by_length], sorted_lengths) + positions - 1
    return assemble(ids[gather], positions, sorted_lengths, by_length)


def assemble(ids: Ints, positions: Ints, sorted_lengths: Ints, by_length: Ints) -> Packed:
    """The tensors of N tokens of B sentences that lie in order of length already.

    Packed sentence j is the caller's sentence ``by_length[j]``.
    """
    order = np.empty_like(by_length)
    order[by_length] = np.arange(len(by_length))
    values, counts = np.unique(sorted_lengths, return_counts=True)
    groups = tuple(zip(counts.tolist(), values.tolist(), strict=True))
    tensors = [torch.from_numpy(array) for array in (ids, positions, order)]
    return Packed(tensors[0], tensors[1], groups, tensors[2], offsets_of(groups))


def offsets_of(groups: tuple[tuple[int, int], ...]) -> Tensor:
    """`Packed.offsets`, int32 [B + 1], from its groups."""
    counts, lengths = torch.tensor(groups, dtype=torch.int32).reshape(-1, 2).unbind(1)
    ends = lengths.repeat_interleave(counts).cumsum(0, dtype=torch.int32)
    return torch.cat([ends.new_zeros(1), ends])
