from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from ems_fast.ops.gemm import Operand, can_round, is_native, multiply_transposed
from ems_fast.ops.native import kernels

# Around the sizes of register tiles (12 × 32, 4 × 24), blocks (96 rows) and depths (256).
SHAPES = [
    (1, 1, 1), (3, 7, 5), (4, 24, 256), (12, 32, 256), (13, 33, 257), (96, 64, 31),
    (97, 65, 512), (200, 31, 600), (5, 300, 1), (20, 601, 300), (0, 8, 8), (8, 0, 8), (8, 8, 0),
]  # fmt: skip


def wide(rows: int, columns: int) -> Tensor:
    """A matrix whose rows do not lie side by side."""
    return torch.randn(rows, columns + 5)[:, :columns]


def close(got: Tensor, want: Tensor) -> None:
    torch.testing.assert_close(got.double(), want, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_products(isa: str, shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    M, N, K = shape
    torch.manual_seed(0)
    a, b, start = wide(M, K).to(dtype), torch.randn(K, N).to(dtype), wide(M, N).to(dtype)
    want = a.double() @ b.double()
    for operand in (Operand(b), Operand(b.t().contiguous().t())):
        out = start.clone()
        operand.multiply(out, a, add=False)
        close(out, want)
        operand.multiply(out, a, add=True)
        close(out, 2 * want)
    out = start.clone()
    multiply_transposed(out, a.t().contiguous(), b, add=False)
    close(out, want)
    multiply_transposed(out, a.t().contiguous(), b, add=True)
    close(out, 2 * want)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rounded_products(shape: tuple[int, int, int]) -> None:
    if not can_round(torch.float32, torch.device("cpu")):
        pytest.skip("this processor has no fast bfloat16")
    M, N, K = shape
    torch.manual_seed(0)
    a, b, start = wide(M, K), torch.randn(K, N), wide(M, N)
    # Operands are rounded to nearest, ties to even, as torch rounds; sums are not.
    want = a.bfloat16().double() @ b.bfloat16().double()
    for operand in (Operand(b, rounded=True), Operand(b.t().contiguous().t(), rounded=True)):
        out = start.clone()
        operand.multiply(out, a, add=False)
        close(out, want)
        operand.multiply(out, a, add=True)
        close(out, 2 * want)
    out = start.clone()
    multiply_transposed(out, a.t().contiguous(), b, add=False, rounded=True)
    close(out, want)
    multiply_transposed(out, a.t().contiguous(), b, add=True, rounded=True)
    close(out, 2 * want)


def test_rounding_where_it_is_missing_is_an_error(isa: str) -> None:
    if can_round(torch.float32, torch.device("cpu")):
        pytest.skip("this processor has fast bfloat16")
    with pytest.raises(ValueError, match="rounded"):
        kernels().gemm_packed_size(3, 3, True)


@given(st.integers(1, 120), st.integers(1, 70), st.integers(1, 300))
def test_threads_do_not_change_a_bit(M: int, N: int, K: int) -> None:
    rounded = can_round(torch.float32, torch.device("cpu"))
    a, b = torch.randn(M, K), torch.randn(K, N)
    before, results = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            products = torch.empty(4, M, N)
            for i, how in ((0, False), (2, rounded)):
                Operand(b, rounded=how).multiply(products[i], a, add=False)
                multiply_transposed(products[i + 1], a.t().contiguous(), b, add=False, rounded=how)
            results.append(products)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_memory_beside_the_result_is_left_alone(isa: str) -> None:
    around = torch.full((40, 50), 7.0)
    out = around[3:33, 5:42]  # neither rows nor columns fill whole tiles
    Operand(torch.randn(9, 37)).multiply(out, torch.randn(30, 9), add=False)
    assert float((around == 7).sum()) == 40 * 50 - 30 * 37


def test_nan_and_inf_arrive(isa: str) -> None:
    a, b = torch.ones(20, 40), torch.ones(40, 50)
    a[3, 5], a[4, 6] = torch.nan, torch.inf
    out = torch.empty(20, 50)
    Operand(b).multiply(out, a, add=False)
    assert bool(out[3].isnan().all())
    assert bool((out[4] == torch.inf).all())
    assert bool((out[5] == 40).all())
    if can_round(torch.float32, a.device):
        Operand(b, rounded=True).multiply(out, a, add=False)
        assert bool(out[3].isnan().all())
        assert bool((out[4] == torch.inf).all())


def test_what_is_native() -> None:
    cpu = torch.device("cpu")
    assert is_native(torch.float32, cpu) == (kernels().active_isa() != "baseline")
    assert not is_native(torch.float64, cpu)
    assert not is_native(torch.bfloat16, cpu)
    assert not is_native(torch.float32, torch.device("meta"))
    assert not can_round(torch.float64, cpu)
