"""XTR's CUDA path, executed by the CPU: every line that a GPU would run."""

from __future__ import annotations

import itertools
from types import ModuleType

import pytest
import torch
from support.cuda_shim import on_shim, shim  # noqa: F401 - fixtures
from test_xtr import error, loss_and_gradients, make_inputs, make_targets, truth
from torch import Tensor

from ems_fast import BagOfWords, contrastive_loss, xtr_loss
from ems_fast.ops.xtr import chunks as xtr_chunks
from ems_fast.ops.xtr import fused as xtr_fused

pytestmark = pytest.mark.usefixtures("on_shim")

# Around a warp's rows (32, or 64 in pairs), a slab of 128 words, a block of 256 columns.
SHAPES = [
    (1, 1, 1), (31, 3, 127), (32, 16, 128), (33, 5, 129), (64, 7, 255), (65, 9, 257), (66, 2, 300),
    (127, 4, 40), (2, 255, 70), (3, 256, 70), (4, 257, 70), (129, 3, 513),
]  # fmt: skip


@pytest.fixture(params=[1 << 30, 1], ids=["one chunk", "chunks"])
def chunks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xtr_chunks, "CUDA_CHUNK_BYTES", request.param)
    monkeypatch.setattr(xtr_chunks, "CHUNK_WORDS_MIN", 100)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.float64, 1e-13)], ids=str
)
@pytest.mark.usefixtures("chunks")
def test_matches_the_float64_reference(
    shape: tuple[int, int, int], dtype: torch.dtype, tolerance: float
) -> None:
    inputs, targets = make_inputs(*shape, dtype), make_targets(shape[0], shape[2])
    upstream = torch.linspace(-1, 2, shape[0])
    got = loss_and_gradients(inputs, targets, upstream)
    for mine, true in zip(got, truth(inputs, targets, upstream), strict=True):
        assert mine.dtype == dtype
        assert error(mine, true) <= tolerance


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [(21, 17, 1001), (64, 32, 300)], ids=str)
@pytest.mark.parametrize("kept", [None, 0])
@pytest.mark.usefixtures("chunks")
def test_half_precision_is_at_most_as_far_off_as_the_reference(
    dtype: torch.dtype, shape: tuple[int, int, int], kept: int | None
) -> None:
    inputs, targets = make_inputs(*shape, dtype), make_targets(shape[0], shape[2])
    upstream = torch.linspace(-1, 2, shape[0])
    got = loss_and_gradients(inputs, targets, upstream, workspace_mb=kept)
    same = loss_and_gradients(inputs, targets, upstream, impl="reference")
    true = truth(inputs, targets, upstream)
    assert got[0].dtype == torch.float32
    for mine, reference, exact in zip(got, same, true, strict=True):
        assert mine.dtype == reference.dtype
        assert error(mine, exact) <= 1.5 * error(reference, exact) + 1e-3


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_gradients_of_a_mean_over_many_flat_rows_do_not_vanish(dtype: torch.dtype) -> None:
    """1 / (B · V) is below float16's smallest number."""
    hidden, weight = make_inputs(256, 8, 4000)
    with torch.no_grad():
        weight *= 0.01
    targets = make_targets(256, 4000)
    true = truth([hidden, weight], targets, torch.full((256,), 1 / 256))
    with torch.autocast("cpu", dtype):
        loss = xtr_loss(hidden, weight, targets)
    got = torch.autograd.grad(loss, [hidden, weight])
    words = torch.ones(4000, dtype=torch.bool)
    words[targets.indices] = False  # their gradient is all dense
    assert error(got[1][words], true[2][words]) < 1e-2


@pytest.mark.parametrize("kept", [None, 0])
@pytest.mark.usefixtures("chunks")
def test_logits_kept_or_made_again(kept: int | None) -> None:
    inputs, targets = make_inputs(40, 6, 700, torch.float64), make_targets(40, 700)
    upstream = torch.linspace(-1, 2, 40)
    got = loss_and_gradients(inputs, targets, upstream, workspace_mb=kept)
    for mine, true in zip(got, truth(inputs, targets, upstream), strict=True):
        assert error(mine, true) < 1e-13


def test_no_order_of_threads_changes_a_bit(on_shim: ModuleType) -> None:  # noqa: F811
    inputs, targets = make_inputs(70, 6, 300), make_targets(70, 300)
    upstream = torch.linspace(-1, 2, 70)
    results = []
    for seed in range(4):
        on_shim.seed(seed)
        results.append(loss_and_gradients(inputs, targets, upstream))
    for other in results[1:]:
        assert all(torch.equal(x, y) for x, y in zip(results[0], other, strict=True))


@pytest.mark.parametrize("wanted", list(itertools.product([False, True], repeat=2)), ids=str)
def test_every_subset_of_requires_grad(wanted: tuple[bool, ...]) -> None:
    inputs, targets = make_inputs(5, 4, 300), make_targets(5, 300)
    for tensor, needs in zip(inputs, wanted, strict=True):
        tensor.requires_grad_(needs)
    loss = xtr_loss(*inputs, targets)
    assert loss.requires_grad == any(wanted)
    if any(wanted):
        loss.backward()
        true = truth(inputs, targets, torch.full((5,), 0.2))
        for tensor, want in zip([x for x in inputs if x.requires_grad], true[1:], strict=True):
            assert error(tensor.grad, want) < 3e-6


def test_gradcheck() -> None:
    hidden, weight = make_inputs(3, 2, 7, torch.float64)
    targets = make_targets(3, 7)

    def rows(hidden: Tensor, weight: Tensor) -> Tensor:
        return xtr_loss(hidden, weight, targets, reduction="none")

    assert torch.autograd.gradcheck(rows, (hidden, weight))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_opcheck(dtype: torch.dtype) -> None:
    hidden, weight = make_inputs(4, 3, 50, dtype)
    t = make_targets(4, 50)
    arguments = (
        hidden, weight, t.indptr, t.indices, t.weights, dtype, True, True, 1 << 20,
    )  # fmt: skip
    torch.library.opcheck(xtr_fused.xtr_forward, arguments)
    saved = xtr_fused.xtr_forward(*arguments)
    detached = [x.detach() for x in (hidden, weight)]
    torch.library.opcheck(
        xtr_fused.xtr_weight_gradient,
        (
            torch.ones(4), *detached, t.indptr, t.indices, t.weights, saved[1].detach(),
            *(x.detach() for x in (saved[2], *saved[4:])), dtype,
        ),
    )  # fmt: skip


@pytest.mark.parametrize("autocast", [False, True])
def test_compiles_without_a_graph_break(autocast: bool) -> None:
    torch._dynamo.reset()
    inputs, targets = make_inputs(6, 5, 90), make_targets(6, 90)

    def loss(hidden: Tensor, weight: Tensor, targets: BagOfWords) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return xtr_loss(hidden * 2, weight, targets) + contrastive_loss(hidden, hidden * 3)

    results = []
    for run in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
        value = run(*inputs, targets)
        results.append([value, *torch.autograd.grad(value, inputs)])
    torch.testing.assert_close(*results, rtol=1e-6, atol=1e-7)


def test_an_empty_batch_trains_on_nothing() -> None:
    hidden, weight = make_inputs(0, 4, 9)
    loss = xtr_loss(hidden, weight, make_targets(0, 9))
    loss.backward()
    assert loss.item() == 0
    assert not weight.grad.any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("where", [0, 1])
def test_nan_and_inf_reach_the_loss(bad: float, where: int) -> None:
    inputs, targets = make_inputs(4, 3, 700), make_targets(4, 700, seed=1)
    with torch.no_grad():
        inputs[where][2, 1] = bad
    loss = xtr_loss(*inputs, targets)
    loss.backward()
    assert loss.isnan()
    assert inputs[1].grad.isnan().any()


def test_large_logits_neither_overflow_nor_vanish() -> None:
    hidden = torch.tensor([[300.0], [-300.0], [0.0]], requires_grad=True)
    weight = torch.linspace(-40, 40, 901)[:, None].requires_grad_()
    inputs, targets = [hidden, weight], make_targets(3, 901)
    got = loss_and_gradients(inputs, targets, torch.ones(3))
    for mine, true in zip(got, truth(inputs, targets, torch.ones(3)), strict=True):
        assert error(mine, true) < 1e-5


@pytest.mark.parametrize("word", [-1, 50, 1 << 40])
def test_an_id_outside_of_the_vocabulary_is_not_read(word: int) -> None:
    hidden, weight = make_inputs(3, 4, 50)
    targets = BagOfWords(
        torch.tensor([0, 2, 3, 4]), torch.tensor([1, 2, word, 3]), torch.full((4,), 0.5)
    )
    loss = xtr_loss(hidden, weight, targets, reduction="none")
    assert loss.isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("indptr", [[0, 2, 99, 4], [-5, 2, 3, 4], [0, 3, 1, 4]])
def test_positions_that_do_not_ascend_stay_in_bounds(indptr: list[int]) -> None:
    hidden, weight = make_inputs(3, 4, 50)
    targets = BagOfWords(torch.tensor(indptr), torch.tensor([1, 2, 3, 4]), torch.full((4,), 0.5))
    xtr_loss(hidden, weight, targets).backward()
    assert weight.grad.shape == (50, 4)
