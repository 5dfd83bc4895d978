"""What only a GPU can show; the same cases as on the CPU are in tests/ops (TestOnGpu).

pytest -m cuda
compute-sanitizer --tool memcheck pytest -m cuda -k matches    # also: racecheck, synccheck
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

import pytest
import torch
from torch import Tensor

from ems_fast import BagOfWords, BinaryCorpus, backends, contrastive_loss, xtr_loss
from ems_fast.distributed.ranks import Ranks
from ems_fast.model.config import preset
from ems_fast.model.ems import EMSModel
from ems_fast.training import split_options
from ems_fast.training.batches import batch_stream
from ems_fast.training.objective import Objective, ObjectiveConfig

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here"),
]
DEVICE = torch.device("cuda")
DTYPES = [torch.float32, torch.float64, torch.bfloat16, torch.float16]


def xtr_case(B: int, D: int, V: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, BagOfWords]:
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(B, D, generator=generator).to(DEVICE, dtype).requires_grad_()
    weight = torch.randn(V, D, generator=generator).to(DEVICE, dtype).requires_grad_()
    ids = torch.randint(0, V, (B, 9), generator=generator)
    return hidden, weight, BagOfWords.from_padded(ids, torch.full((B,), 9)).to(DEVICE)


def pairs(B: int, M: int, E: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(B, E, generator=generator).to(DEVICE, dtype).requires_grad_()
    b = torch.randn(M, E, generator=generator).to(DEVICE, dtype).requires_grad_()
    return a, b, torch.randint(0, M, (M,), generator=generator).to(DEVICE)


def results(loss: Callable[..., Tensor], *leaves: Tensor) -> list[Tensor]:
    rows = loss(*leaves)
    upstream = torch.linspace(-1, 2, len(rows), dtype=rows.dtype, device=rows.device)
    return [rows.detach(), *torch.autograd.grad(rows, leaves, upstream)]


def error(got: Tensor, want: Tensor) -> float:
    return float((got.double() - want.double()).norm() / want.double().norm().clamp_min(1e-3))


def assert_as_good_as_the_reference(
    loss: Callable[..., Tensor], leaves: tuple[Tensor, ...], tolerance: float
) -> None:
    """At most half as far again from float64 as the reference in the same dtype."""
    wide = [x.detach().double().requires_grad_() for x in leaves]
    true = results(lambda *x: loss(*x, impl="reference"), *wide)
    same = results(lambda *x: loss(*x, impl="reference"), *leaves)
    got = results(lambda *x: loss(*x, impl="fused"), *leaves)
    for mine, reference, exact in zip(got, same, true, strict=True):
        assert mine.dtype == reference.dtype
        assert error(mine, exact) <= 1.5 * error(reference, exact) + tolerance


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(1, 8, 100), (67, 33, 5001), (304, 128, 60_000)], ids=str)
@pytest.mark.parametrize("kept", [None, 0])
def test_xtr_matches(shape: tuple[int, int, int], dtype: torch.dtype, kept: int | None) -> None:
    hidden, weight, targets = xtr_case(*shape, dtype)

    def loss(hidden: Tensor, weight: Tensor, impl: Any) -> Tensor:
        options = {"workspace_mb": kept} if impl == "fused" else {}
        return xtr_loss(hidden, weight, targets, reduction="none", impl=impl, **options)

    assert_as_good_as_the_reference(loss, (hidden, weight), 1e-3 if dtype.itemsize == 2 else 1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("temperature", [0.005, 0.1])
@pytest.mark.parametrize("shape", [(1, 3, 5), (152, 160, 128), (5000, 5100, 16)], ids=str)
def test_contrastive_matches(
    shape: tuple[int, int, int], dtype: torch.dtype, temperature: float
) -> None:
    a, b, ids = pairs(*shape, dtype)

    def loss(a: Tensor, b: Tensor, impl: Any) -> Tensor:
        return contrastive_loss(
            a, b, temperature=temperature, source_ids=ids, reduction="none",
            impl=impl,
        )  # fmt: skip

    assert_as_good_as_the_reference(loss, (a, b), 1e-3 if dtype.itemsize == 2 else 1e-5)


def test_a_learnt_temperature_gets_its_gradient() -> None:
    a, b, _ = pairs(40, 40, 8, torch.float64)
    tau = torch.tensor(0.1, dtype=torch.float64, device=DEVICE, requires_grad=True)
    grads = [
        torch.autograd.grad(contrastive_loss(a, b, temperature=tau, impl=impl), tau)[0]
        for impl in ("fused", "reference")
    ]
    torch.testing.assert_close(*grads)


def losses_of(hidden: Tensor, weight: Tensor, targets: BagOfWords, a: Tensor, b: Tensor) -> Tensor:
    return xtr_loss(hidden, weight, targets) + contrastive_loss(a, b)


def test_work_is_queued_on_the_current_stream() -> None:
    hidden, weight, targets = xtr_case(64, 32, 3000, torch.float32)
    a, b, _ = pairs(64, 64, 32, torch.float32)
    want = losses_of(hidden, weight, targets, a, b)
    late = [torch.zeros_like(x) for x in (hidden, weight, a, b)]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream), torch.no_grad():
        torch.cuda._sleep(200_000_000)  # the inputs are there only after this
        for x, y in zip(late, (hidden, weight, a, b), strict=True):
            x.copy_(y)
        got = losses_of(late[0], late[1], targets, late[2], late[3])
    torch.cuda.current_stream().wait_stream(stream)
    assert torch.equal(got, want)


def test_a_cuda_graph_replays_forward_and_backward() -> None:
    hidden, weight, targets = xtr_case(64, 32, 3000, torch.float32)
    a, b, _ = pairs(64, 64, 32, torch.float32)
    leaves = [hidden, weight, a, b]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.autograd.grad(losses_of(hidden, weight, targets, a, b), leaves)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = losses_of(hidden, weight, targets, a, b)
        grads = torch.autograd.grad(loss, leaves)
    with torch.no_grad():
        hidden.mul_(0.5)
        a.add_(b)
    graph.replay()
    want = losses_of(hidden, weight, targets, a, b)
    assert torch.equal(loss, want)
    for got, expected in zip(grads, torch.autograd.grad(want, leaves), strict=True):
        assert torch.equal(got, expected)


def test_torch_compile_in_one_graph() -> None:
    hidden, weight, targets = xtr_case(64, 32, 3000, torch.float32)
    a, b, _ = pairs(64, 64, 32, torch.float32)
    compiled = torch.compile(losses_of, fullgraph=True, backend="aot_eager")
    got = compiled(hidden, weight, targets, a, b)
    torch.testing.assert_close(got, losses_of(hidden, weight, targets, a, b))


def test_the_same_bits_every_time() -> None:
    hidden, weight, targets = xtr_case(300, 64, 20_000, torch.float32)
    a, b, _ = pairs(3000, 3000, 32, torch.float32)
    runs = []
    for _ in range(3):
        loss = losses_of(hidden, weight, targets, a, b)
        runs.append([loss, *torch.autograd.grad(loss, [hidden, weight, a, b])])
    for other in runs[1:]:
        assert all(torch.equal(x, y) for x, y in zip(runs[0], other, strict=True))


@pytest.fixture
def no_waiting() -> Iterator[Callable[[bool], None]]:
    """Switches off and on that anything may wait for the device."""

    def forbid(forbidden: bool) -> None:
        with warnings.catch_warnings():  # torch warns of a prototype, which may miss some waits
            warnings.simplefilter("ignore", UserWarning)
            torch.cuda.set_sync_debug_mode("error" if forbidden else "default")

    yield forbid
    forbid(False)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_training_step_never_waits_for_the_device(
    corpus: BinaryCorpus, precision: str, no_waiting: Callable[[bool], None]
) -> None:
    options = split_options({"batch_pairs": 32, "precision": precision})
    config = preset("mini", vocab_size=corpus.vocab_size, languages=tuple(corpus.languages))
    model = EMSModel(config).to(DEVICE).train()
    objective = Objective(model, ObjectiveConfig(impl="fused"))
    optimizer = options.optimizer.build(model)
    dtype = options.optimizer.autocast_dtype(DEVICE)
    stream = batch_stream(corpus, options.batches, Ranks(0, 1, DEVICE))
    batches = [batch for batch, _ in islice(stream, 3)]
    stream.close()
    for step, batch in enumerate(batches):
        if step:  # the first step sets up libraries
            no_waiting(True)
        with torch.autocast("cuda", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            losses = objective(batch.to(DEVICE))
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    no_waiting(False)
    assert losses.total.isfinite()


def test_backends_names_the_device() -> None:
    (cuda,) = [backend for backend in backends() if backend.name == "cuda"]
    assert cuda.active, cuda.detail
    assert torch.cuda.get_device_name() in cuda.detail
