"""The contrastive loss's CUDA path, executed by the CPU: every line that a GPU would run."""

from __future__ import annotations

import itertools
from types import ModuleType
from typing import Any

import pytest
import torch
from support.cuda_shim import on_shim, shim  # noqa: F401 - fixtures
from test_contrastive import (
    SHAPES,
    assert_matches,
    few_ids,
    loss_and_gradients,
    vectors,
)
from torch import Tensor

from ems_fast import contrastive_loss
from ems_fast.ops.contrastive import fused as contrastive_fused
from ems_fast.ops.contrastive import kernels as contrastive_kernels
from ems_fast.ops.contrastive.reference import contrastive_loss_reference

pytestmark = pytest.mark.usefixtures("on_shim")

# Around a warp, a patch of 64 rows by 64 columns, and two of them.
EDGES = [1, 31, 32, 33, 63, 64, 65, 127, 128, 129]


@pytest.fixture(params=["on the host", "on the device"])
def temperature_is(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the temperature is: on the device its value is unknown."""
    if request.param == "on the device":
        monkeypatch.setattr(contrastive_kernels, "_host_value", lambda temperature: None)


def use_tiles(monkeypatch: pytest.MonkeyPatch, tile_bytes: int) -> None:
    monkeypatch.setattr(contrastive_fused, "CUDA_TILE_BYTES", tile_bytes)
    monkeypatch.setattr(contrastive_fused, "KEPT_BYTES", tile_bytes)


@pytest.mark.parametrize("temperature", [0.005, 0.1, 10.0])
@pytest.mark.parametrize(("B", "M", "E"), SHAPES)
@pytest.mark.usefixtures("temperature_is")
def test_float64_matches_reference(B: int, M: int, E: int, temperature: float) -> None:
    a, b = vectors(B, E), vectors(M, E, seed=1)
    options = {
        "source_ids": few_ids(M, 2 * M),
        "target_ids": few_ids(M, M // 2 + 1, seed=1),
    }
    got = loss_and_gradients(contrastive_loss, a, b, temperature, **options)
    want = loss_and_gradients(contrastive_loss_reference, a, b, temperature, **options)
    assert_matches(got, want, 1e-12)


@pytest.mark.parametrize("size", EDGES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_sizes_around_warps_and_patches(size: int, dtype: torch.dtype) -> None:
    a, b = vectors(size, size).to(dtype), vectors(size + 2, size, seed=1).to(dtype)
    options = {"source_ids": few_ids(size + 2, size)}
    true = loss_and_gradients(contrastive_loss_reference, a.double(), b.double(), 0.1, **options)
    same = loss_and_gradients(contrastive_loss_reference, a, b, 0.1, **options)
    got = loss_and_gradients(contrastive_loss, a, b, 0.1, **options)
    assert [x.dtype for x in got] == [x.dtype for x in same]
    assert_matches(got, true, 1e-6, floor=same)


@pytest.mark.parametrize("temperature", [0.005, 0.1])
@pytest.mark.parametrize("tile_bytes", [8, 1 << 9, 1 << 16])
def test_tiles_do_not_matter(
    temperature: float, tile_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = vectors(70, 9), vectors(81, 9, seed=1)
    options: dict[str, Any] = {
        "source_ids": few_ids(81, 50), "target_ids": few_ids(81, 60, seed=1),
    }  # fmt: skip
    want = loss_and_gradients(contrastive_loss_reference, a, b, temperature, **options)
    if tile_bytes == 8:
        a, b = a[:5], b[:7]
        options = {"source_ids": few_ids(7, 5)}
        want = loss_and_gradients(contrastive_loss_reference, a, b, temperature, **options)
    use_tiles(monkeypatch, tile_bytes)
    assert_matches(loss_and_gradients(contrastive_loss, a, b, temperature, **options), want, 1e-12)


@pytest.mark.parametrize("temperature", [0.005, 0.1])
def test_no_order_of_threads_changes_a_bit(on_shim: ModuleType, temperature: float) -> None:  # noqa: F811
    a, b = vectors(70, 40, torch.float32), vectors(140, 40, torch.float32, seed=1)
    options = {"source_ids": few_ids(140, 60)}
    results = []
    for seed in range(5):
        on_shim.seed(seed)
        results.append(loss_and_gradients(contrastive_loss, a, b, temperature, **options))
    for other in results[1:]:
        assert all(torch.equal(x, y) for x, y in zip(results[0], other, strict=True))


def test_an_empty_batch() -> None:
    a, b = vectors(0, 4).requires_grad_(), vectors(3, 4).requires_grad_()
    loss = contrastive_loss(a, b)
    loss.backward()
    assert loss.item() == 0
    assert a.grad is not None
    assert a.grad.shape == (0, 4)
    assert b.grad is not None
    assert not b.grad.any()


@pytest.mark.parametrize("temperature", [0.005, 0.1])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_nan_reaches_the_loss(temperature: float, value: float) -> None:
    a, b = vectors(70, 8, torch.float32), vectors(70, 8, torch.float32, seed=1)
    b[66, 3] = value
    b.requires_grad_()
    loss = contrastive_loss(a, b, temperature=temperature)
    loss.backward()
    assert loss.isnan()
    assert b.grad is not None
    assert b.grad.isnan().any()


@pytest.mark.parametrize("temperature", [0.005, 0.1])
def test_zero_vectors_and_batches_of_duplicates(temperature: float) -> None:
    a, b = vectors(6, 8), vectors(6, 8, seed=1)
    a[1] = 0
    b[2] = 0
    got = loss_and_gradients(contrastive_loss, a, b, temperature)
    assert_matches(got, loss_and_gradients(contrastive_loss_reference, a, b, temperature), 1e-10)
    same = torch.full((6,), 7)
    loss = contrastive_loss(a, b, temperature=temperature, source_ids=same, reduction="none")
    torch.testing.assert_close(loss, torch.zeros(6, dtype=torch.float64))


@pytest.mark.parametrize("needs", list(itertools.product([False, True], repeat=3))[1:])
def test_gradients_of_any_subset(needs: tuple[bool, ...]) -> None:
    leaves = [vectors(9, 5), vectors(12, 5, seed=1), torch.tensor(0.2, dtype=torch.float64)]
    grads = []
    for impl in ("fused", "reference"):
        inputs = [x.clone().requires_grad_(need) for x, need in zip(leaves, needs, strict=True)]
        contrastive_loss(inputs[0], inputs[1], temperature=inputs[2], impl=impl).backward()
        grads.append([x.grad for x in inputs])
    for got, want in zip(*grads, strict=True):
        assert (got is None) == (want is None)
        if got is not None:
            torch.testing.assert_close(got, want)


@pytest.mark.parametrize("tile_bytes", [1 << 6, 1 << 20])
def test_opcheck_and_gradcheck(tile_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiles(monkeypatch, tile_bytes)
    a, b = vectors(4, 3).requires_grad_(), vectors(6, 3, seed=1).requires_grad_()
    tau = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
    ids = few_ids(6, 4)
    torch.library.opcheck(contrastive_fused.contrastive_forward, (a, b, tau, ids, None, False))

    def loss(a: Tensor, b: Tensor, tau: Tensor) -> Tensor:
        return contrastive_loss(a, b, temperature=tau, source_ids=ids, reduction="none")

    assert torch.autograd.gradcheck(loss, (a, b, tau), eps=1e-7, atol=1e-4, rtol=1e-4)
