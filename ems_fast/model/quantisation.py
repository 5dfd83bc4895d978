"""Tables of token vectors in 8 or 4 bits, a quarter or an eighth of the bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from ems_fast.errors import InputError

Bits = Literal[32, 8, 4]

# Matrices whose rows are looked up, not multiplied: a row's error stays that row's.
_TABLES = ("encoder.tokens.weight",)
_SCALE = "_scale"
# Of a row's largest number: where 4 bits end. What lies beyond is cut off, and the rest is finer.
_CLIP = 0.8


def quantise(state: Mapping[str, Tensor], bits: Bits) -> dict[str, Tensor]:
    """`state` with its tables in so many bits a number; in 32 as it is.

    In 8 bits row r is ``round(w_r / s_r)``, int8, with ``s_r = max |w_r| / 127``. In 4 it is
    ``8 + round(w_r / s_r)`` within 1 to 15, with ``s_r = 0.8 max |w_r| / 7``, as uint8 of half the
    width: the first half of its columns in the lower bits, the second in the upper. The scales s,
    float32, one a row, lie beside a table, under its name with ``_scale``.

    Raises:
        InputError: 4 bits of an odd width.
    """
    found = dict(state)
    for name in _TABLES if bits < 32 else ():
        table = state[name].float()
        width = table.shape[1]
        if bits == 4 and width % 2:
            raise InputError(
                f"bits: got 4, but a table of odd width ({width}) has no pairs; pass 8"
            )
        largest = table.abs().amax(dim=1)
        scales = largest / 127 if bits == 8 else largest * (_CLIP / 7)
        numbers = (table / scales.clamp_min(1e-30)[:, None]).round()
        if bits == 8:
            found[name] = numbers.to(torch.int8)
        else:
            nibbles = (numbers.clamp(-7, 7) + 8).to(torch.uint8)
            found[name] = nibbles[:, : width // 2] | nibbles[:, width // 2 :] << 4
        found[name + _SCALE] = scales
    return found


def dequantise(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `quantise` was given, to within its error, in float32; other states as they are."""
    found = dict(state)
    for name in _TABLES:
        scales = found.pop(name + _SCALE, None)
        if scales is not None:
            table = found[name]
            if table.dtype == torch.uint8:
                table = torch.cat([table & 15, table >> 4], dim=1).float() - 8
            found[name] = table.float() * scales[:, None]
    return found
