from __future__ import annotations

import torch

from ems_fast.model.quantisation import dequantise, quantise

NAME = "encoder.tokens.weight"


def test_values_are_kept_to_half_a_step() -> None:
    torch.manual_seed(0)
    table = torch.randn(50, 16) * torch.logspace(-3, 2, 50)[:, None]
    table[3] = 0
    other = torch.randn(4)
    stored = quantise({NAME: table, "encoder.norm.weight": other})
    assert stored[NAME].dtype == torch.int8
    found = dequantise(stored)
    assert set(found) == {NAME, "encoder.norm.weight"}
    steps = table.abs().amax(dim=1, keepdim=True) / 127
    assert bool(((found[NAME] - table).abs() <= 0.501 * steps).all())
    assert bool((found[NAME][3] == 0).all())
    assert torch.equal(found["encoder.norm.weight"], other)


def test_what_was_not_quantised_stays() -> None:
    state = {NAME: torch.randn(3, 2)}
    assert dequantise(state)[NAME] is state[NAME]
