from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from ems_fast.model.packing import pack


@given(st.lists(st.integers(1, 12), min_size=1, max_size=40))
def test_packing_keeps_every_sentence(lengths: list[int]) -> None:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.arange(offsets[-1], dtype=np.int64)
    packed = pack(ids, offsets[:-1], np.diff(offsets))

    starts, sizes = [], []
    position = 0
    for n, T in packed.groups:
        for _ in range(n):
            starts.append(position)
            sizes.append(T)
            position += T
    assert position == len(ids)
    assert packed.offsets.dtype == torch.int32
    assert packed.offsets.tolist() == [*starts, position]
    assert packed.lengths().tolist() == sizes
    assert [T for _, T in packed.groups] == sorted({*lengths})
    for i, length in enumerate(lengths):
        place = packed.order[i]
        piece = slice(starts[place], starts[place] + sizes[place])
        assert packed.ids[piece].tolist() == list(range(offsets[i], offsets[i] + length))
        assert packed.positions[piece].tolist() == list(range(1, length + 1))
