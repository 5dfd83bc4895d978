from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ems_fast.ops.table import coalesce_rows, table_mean, table_mean_reference

# Sentences of no token, of one, of one token repeated, of many.
LENGTHS = [[3, 1, 4], [0, 2, 0], [1], [7, 7], [0], [], [1, 130, 2]]


def inputs(lengths: list[int], V: int = 11, D: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(len(lengths))
    table = torch.randn(V, D, dtype=torch.float64, requires_grad=True)
    ids = torch.randint(V - 1, (sum(lengths),))  # the last row is never used
    ids[::3] = 4  # a token of every sentence, often twice
    return table, ids, torch.tensor(lengths, dtype=torch.int64)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_equals_the_definition(lengths: list[int], sparse: bool) -> None:
    table, ids, counts = inputs(lengths)
    found, expected = table_mean(table, ids, counts, sparse=sparse), None
    expected = table_mean_reference(table, ids, counts)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    upstream = torch.randn_like(expected)
    (gradient,) = torch.autograd.grad(found, table, upstream)
    (wanted,) = torch.autograd.grad(expected, table, upstream)
    assert gradient.is_sparse == sparse
    if sparse:
        assert gradient.is_coalesced()
        assert gradient.indices()[0].tolist() == sorted(set(ids.tolist()))
        gradient = gradient.to_dense()
    torch.testing.assert_close(gradient, wanted, rtol=1e-12, atol=1e-12)


@given(st.lists(st.integers(0, 6), max_size=12), st.integers(1, 9), st.integers(1, 40))
def test_any_shape(lengths: list[int], D: int, V: int) -> None:
    table, ids, counts = inputs(lengths, V + 1, D)
    ids = ids.clamp_max(V)
    found = table_mean(table, ids, counts)
    torch.testing.assert_close(found, table_mean_reference(table, ids, counts))


def test_gradcheck() -> None:
    table, ids, counts = inputs([3, 0, 5, 1])
    assert torch.autograd.gradcheck(lambda w: table_mean(w, ids, counts), table)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    table, ids, counts = inputs([3, 0, 90])
    half = table.detach().to(dtype).requires_grad_()
    found = table_mean(half, ids, counts)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, table_mean_reference(half.float(), ids, counts))
    found.sum().backward()
    assert half.grad is not None
    assert half.grad.dtype == dtype


def test_bits_do_not_depend_on_threads_or_neighbours() -> None:
    torch.manual_seed(0)
    table, counts = torch.randn(500, 64, requires_grad=True), torch.randint(1, 30, (300,))
    ids = torch.randint(500, (int(counts.sum()),))
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            means = table_mean(table, ids, counts)
            (gradient,) = torch.autograd.grad(means.square().sum(), table)
            results.append((means, gradient))
    finally:
        torch.set_num_threads(before)
    for means, gradient in results[1:]:
        assert torch.equal(means, results[0][0])
        assert torch.equal(gradient, results[0][1])
    alone = table_mean(table, ids[: int(counts[0])], counts[:1])
    assert torch.equal(alone[0], results[0][0][0])


@pytest.mark.parametrize("rows", [[1, 4, 9], [9, 1], [3, 3, 5], []])
def test_coalescing_rows(rows: list[int]) -> None:
    values = torch.randn(len(rows), 2)
    gradient = torch.sparse_coo_tensor(
        torch.tensor([rows], dtype=torch.int64), values, (11, 2), check_invariants=True
    )
    found, expected = coalesce_rows(gradient), gradient.coalesce()
    assert found.is_coalesced()
    assert torch.equal(found.indices(), expected.indices())
    assert torch.equal(found.values(), expected.values())
    if rows == sorted(set(rows)):
        assert found.values().data_ptr() == values.data_ptr()  # nothing was copied
