"""The optimiser's step on touched rows: the kernel against its definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ems_fast.ops.adagrad import adagrad_rows, adagrad_rows_reference

OPTIONS = {"lr": 0.3, "eps": 1e-10, "weight_decay": 0.1}


def inputs(R: int, D: int, V: int) -> list[Tensor]:
    torch.manual_seed(R)
    return [torch.randn(V, D), torch.rand(V), torch.randperm(V)[:R], torch.randn(R, D)]


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize(("R", "D", "V"), [(0, 3, 5), (1, 1, 1), (7, 17, 9), (200, 256, 1000)])
def test_equals_the_definition(R: int, D: int, V: int) -> None:
    table, sums, rows, gradient = inputs(R, D, V)
    expected = [table.double(), sums.double()]
    adagrad_rows_reference(*expected, rows, gradient.double(), **OPTIONS)
    untouched = torch.ones(V, dtype=torch.bool).index_fill(0, rows, False)
    before = table[untouched].clone()
    adagrad_rows(table, sums, rows, gradient, **OPTIONS)
    torch.testing.assert_close(table.double(), expected[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sums.double(), expected[1], rtol=1e-5, atol=1e-6)
    assert torch.equal(table[untouched], before)


@given(st.integers(0, 40), st.integers(1, 40))
def test_threads_do_not_change_a_bit(R: int, D: int) -> None:
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            tensors = inputs(R, D, 41)
            adagrad_rows(*tensors, **OPTIONS)
            results.append(tensors)
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(x, y) for x, y in zip(results[0], other, strict=True))


def test_other_dtypes_and_layouts_take_the_definition() -> None:
    table, sums, rows, gradient = inputs(4, 6, 8)
    expected = [table.clone(), sums.clone()]
    adagrad_rows(*expected, rows, gradient, **OPTIONS)
    strided = table.t().contiguous().t()
    adagrad_rows(strided, sums.clone(), rows, gradient, **OPTIONS)
    torch.testing.assert_close(strided, expected[0])
    double = table.double()
    adagrad_rows(double, sums.double(), rows, gradient.double(), **OPTIONS)
    torch.testing.assert_close(double.float(), expected[0])


def test_rows_outside_are_refused_before_any_is_changed() -> None:
    table, sums, _, gradient = inputs(2, 3, 5)
    before = table.clone()
    for row in (-1, 5):
        with pytest.raises(ValueError, match="rows: outside of 0 to 4"):
            adagrad_rows(table, sums, torch.tensor([0, row]), gradient, **OPTIONS)
    assert torch.equal(table, before)
