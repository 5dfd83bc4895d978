from __future__ import annotations

import pytest
import torch

from ems_fast.errors import InputError
from ems_fast.model.quantisation import Bits, dequantise, quantise

NAME = "encoder.tokens.weight"


def a_table() -> torch.Tensor:
    torch.manual_seed(0)
    table = torch.randn(50, 16) * torch.logspace(-3, 2, 50)[:, None]
    table[3] = 0
    return table


@pytest.mark.parametrize(
    ("bits", "dtype", "shape", "steps", "reach"),
    [(8, torch.int8, (50, 16), 127, 1.0), (4, torch.uint8, (50, 8), 7, 0.8)],
)
def test_values_are_kept_to_half_a_step(
    bits: Bits, dtype: torch.dtype, shape: tuple[int, int], steps: int, reach: float
) -> None:
    table, other = a_table(), torch.randn(4)
    stored = quantise({NAME: table, "encoder.norm.weight": other}, bits)
    assert stored[NAME].dtype == dtype
    assert stored[NAME].shape == shape
    found = dequantise(stored)
    assert set(found) == {NAME, "encoder.norm.weight"}
    ends = reach * table.abs().amax(dim=1, keepdim=True)
    kept = torch.minimum(torch.maximum(table, -ends), ends)
    assert bool(((found[NAME] - kept).abs() <= 0.501 * ends / steps).all())
    assert bool((found[NAME][3] == 0).all())
    assert torch.equal(found["encoder.norm.weight"], other)


def test_halves_of_a_row_share_bytes() -> None:
    stored = quantise({NAME: torch.tensor([[7.0, -2.0, 3.0, 8.75]])}, 4)
    assert stored[NAME].tolist() == [[(3 + 8) << 4 | (7 + 8), (7 + 8) << 4 | (8 - 2)]]
    assert stored[NAME + "_scale"].tolist() == [1.0]


def test_four_bits_need_an_even_width() -> None:
    with pytest.raises(InputError, match=r"bits: got 4, but a table of odd width \(3\)"):
        quantise({NAME: torch.ones(2, 3)}, 4)


def test_what_was_not_quantised_stays() -> None:
    state = {NAME: torch.randn(3, 2)}
    assert dequantise(state)[NAME] is state[NAME]
    assert quantise(state, 32)[NAME] is state[NAME]
