"""Tables of token vectors in 8 bits, as they lie on disk: a quarter of the bytes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

# Matrices whose rows are looked up, not multiplied: a row's error stays that row's.
_TABLES = ("encoder.tokens.weight",)
_SCALE = "_scale"


def quantise(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`state` with its tables in int8.

    Row r is ``round(w_r / s_r)`` with ``s_r = max |w_r| / 127``. The scales s, float32 [V], lie
    beside a table, under its name with ``_scale``.
    """
    found = dict(state)
    for name in _TABLES:
        table = state[name].float()
        scales = table.abs().amax(dim=1) / 127
        found[name] = (table / scales.clamp_min(1e-30)[:, None]).round().to(torch.int8)
        found[name + _SCALE] = scales
    return found


def dequantise(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `quantise` was given, to within half a step, in float32; other states as they are."""
    found = dict(state)
    for name in _TABLES:
        scales = found.pop(name + _SCALE, None)
        if scales is not None:
            found[name] = found[name].float() * scales[:, None]
    return found
