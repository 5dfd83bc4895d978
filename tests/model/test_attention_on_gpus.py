"""The attention that a GPU runs, without one: its operators are torch's, what they get is ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from support.synthetic import TINY
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ems_fast.model import encoder
from ems_fast.model.config import ModelConfig
from ems_fast.model.ems import EMSModel
from ems_fast.model.encoder import SelfAttention
from ems_fast.model.packing import Packed, pack


class Calls(TorchDispatchMode):
    """Counts the operators that run within."""

    def __init__(self) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.names[func.name().removeprefix("aten::")] += 1
        return func(*args, **(kwargs or {}))


def batch_of(lengths: list[int]) -> Packed:
    offsets = np.cumsum([0, *lengths]).astype(np.int64)
    return pack(np.arange(offsets[-1]) % 48 + 2, offsets[:-1], np.diff(offsets))


def attend(q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, longest: int) -> Tensor:
    """What torch says of its operators: q, k, v (N, H, D/H), sentences end at offsets."""
    assert offsets.dtype == torch.int32
    assert longest == int(offsets.diff().max())
    parts = []
    for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
        one = [x[begin:end].transpose(0, 1).double() for x in (q, k, v)]
        parts.append(torch.nn.functional.scaled_dot_product_attention(*one).transpose(0, 1))
    return torch.cat(parts).to(q.dtype)


@pytest.fixture
def operators() -> Iterator[Counter[str]]:
    """torch's attention for sentences that lie one after another, for CPU tensors."""
    called: Counter[str] = Counter()

    def flash(q, k, v, ends, _, T, __, dropout, causal, debug, **options):
        called["flash"] += 1
        assert (dropout, causal, debug, options) == (0.0, False, False, {})
        rest = q.new_empty(0), torch.empty(2), torch.empty(()), q.new_empty(0)
        return attend(q, k, v, ends, T), *rest

    def efficient(q, k, v, bias, ends, _, T, __, dropout, mask_type, *rest, **options):
        called["efficient"] += 1
        assert (bias, dropout, mask_type, options) == (None, 0.0, 0, {})
        out = attend(q[0], k[0], v[0], ends, T)[None]
        return out, q.new_empty(0), torch.empty(()), torch.empty(()), T, T

    library = torch.library.Library("aten", "IMPL")
    library.impl("_flash_attention_forward", flash, "CPU")
    library.impl("_efficient_attention_forward", efficient, "CPU")
    yield called
    library._destroy()


def attention(width: int = 32, heads: int = 2) -> SelfAttention:
    sizes = {**TINY, "width": width, "heads": heads}
    return EMSModel(ModelConfig(**sizes, vocab_size=50)).eval().encoder.layers[0].attention


@pytest.mark.parametrize("lengths", [[1], [3, 3, 3], [9, 1, 2, 2, 60], [120, 5, 120]])
@pytest.mark.parametrize(
    ("dtype", "new", "operator"),
    [
        (torch.float32, True, "efficient"),
        (torch.bfloat16, True, "flash"),
        (torch.float16, False, "efficient"),
    ],
    ids=str,
)
def test_attention_in_place_equals_attention_in_groups(
    operators: Counter[str], lengths: list[int], dtype: torch.dtype, new: bool, operator: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(encoder, "has_flash_attention", lambda device: new)
    layer, batch = attention(), batch_of(lengths)
    qkv = torch.randn(sum(lengths), 3 * 32).to(dtype)
    assert layer._reads_in_place(qkv)
    with torch.inference_mode():
        got = layer._attend_in_place(qkv, batch)
        want = layer._attend_groups(qkv.double(), batch)
    assert operators == {operator: 1}
    assert got.dtype == dtype
    torch.testing.assert_close(got.double(), want, rtol=0, atol=4 * torch.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_launches_do_not_depend_on_the_lengths(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forward and backward on tensors without data: one attention each, nothing copied forward."""
    monkeypatch.setattr(encoder, "has_flash_attention", lambda device: True)
    layer = attention().train()
    counts = []
    for lengths in ([4], [1, 2, 3, 7, 30, 30]):
        qkv = torch.empty(sum(lengths), 96, dtype=dtype, device="meta", requires_grad=True)
        batch = batch_of(lengths).to(torch.device("meta"))
        with Calls() as calls:
            out = layer._attend_in_place(qkv, batch)
        assert out.shape == (sum(lengths), 32)
        name = "_flash_attention" if dtype == torch.bfloat16 else "_efficient_attention"
        assert calls.names[f"{name}_forward"] == 1
        assert not {"copy_", "clone", "cat", "contiguous"} & set(calls.names)
        with Calls() as backward:
            (gradient,) = torch.autograd.grad(out.sum(), qkv)
        assert gradient.shape == qkv.shape
        assert backward.names[f"{name}_backward"] == 1
        counts.append((calls.names, backward.names))
    assert counts[0] == counts[1]


@pytest.mark.parametrize(
    ("width", "heads", "dtype"), [(32, 2, torch.float64), (24, 2, torch.float32),
                                  (512, 2, torch.float32)],
)  # fmt: skip
def test_other_kinds_are_padded(width: int, heads: int, dtype: torch.dtype) -> None:
    qkv = torch.empty(5, 3 * width, dtype=dtype, device="meta")
    assert not attention(width, heads)._reads_in_place(qkv)
