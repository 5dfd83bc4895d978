from __future__ import annotations

import functools
import itertools
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cuda_shim import on_shim, shim  # noqa: F401 - fixtures
from torch import Tensor

from ems_fast import BackendError, BagOfWords, InputError, contrastive_loss, xtr_loss
from ems_fast.ops import impl, native, workspace
from ems_fast.ops.bag_of_words import WEIGHTINGS
from ems_fast.ops.native import kernels
from ems_fast.ops.xtr import chunks as xtr_chunks
from ems_fast.ops.xtr import fused as xtr_fused

SHAPES = [(1, 1, 1), (1, 3, 11), (5, 7, 1001), (3, 16, 257), (67, 9, 2049), (520, 5, 300)]
# Around a warp's rows (32, or 64 in pairs), a slab of 128 words, a block of 256 columns.
CUDA_SHAPES = [
    (1, 1, 1), (31, 3, 127), (32, 16, 128), (33, 5, 129), (64, 7, 255), (65, 9, 257), (66, 2, 300),
    (127, 4, 40), (2, 255, 70), (3, 256, 70), (4, 257, 70), (129, 3, 513),
]  # fmt: skip


def make_targets(B: int, V: int, weighting: str = "count", seed: int = 0) -> BagOfWords:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, V, (B, 9), generator=generator)
    lengths = torch.randint(0, 10, (B,), generator=generator)
    return BagOfWords.from_padded(ids, lengths, weighting, vocab_size=V)


def make_inputs(B: int, D: int, V: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(B + D + V)
    shapes = [(B, D), (V, D)]
    return [torch.randn(s, generator=generator).to(dtype).requires_grad_() for s in shapes]


def loss_and_gradients(
    inputs: list[Tensor], targets: BagOfWords, upstream: Tensor, **keywords: object
) -> list[Tensor]:
    loss = xtr_loss(*inputs, targets, reduction="none", **keywords)
    wanted = [x for x in inputs if x.requires_grad]
    return [loss.detach(), *torch.autograd.grad((loss * upstream).sum(), wanted)]


def truth(
    inputs: list[Tensor], targets: BagOfWords, upstream: Tensor, dtype=torch.float64
) -> list[Tensor]:
    wide = [x.detach().to(dtype).requires_grad_(x.requires_grad) for x in inputs]
    return loss_and_gradients(wide, targets, upstream, impl="reference")


def error(got: Tensor, want: Tensor) -> float:
    scale = want.double().norm().clamp_min(1e-3)
    return float((got.double() - want.double()).norm() / scale)


class XtrTests:
    """What holds however the tensors reach the kernels; `each_way` is that, several times over.

    Subclasses also give `shape`: B, D and V around the sizes that their kernels work in.
    """

    device = "cpu"

    def inputs(self, B: int, D: int, V: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
        made = make_inputs(B, D, V, dtype)
        return [x.detach().to(self.device).requires_grad_() for x in made]

    def targets(self, B: int, V: int, seed: int = 0) -> BagOfWords:
        return make_targets(B, V, seed=seed).to(self.device)

    def upstream(self, B: int) -> Tensor:
        return torch.linspace(-1, 2, B, device=self.device)

    @pytest.mark.parametrize("kept", [None, 0])
    @pytest.mark.parametrize(
        ("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.float64, 1e-13)], ids=str
    )
    @pytest.mark.usefixtures("each_way")
    def test_matches_the_float64_reference(
        self, shape: tuple[int, int, int], kept: int | None, dtype: torch.dtype, tolerance: float
    ) -> None:
        inputs, targets = self.inputs(*shape, dtype), self.targets(shape[0], shape[2])
        upstream = self.upstream(shape[0])
        got = loss_and_gradients(inputs, targets, upstream, workspace_mb=kept)
        for mine, true in zip(got, truth(inputs, targets, upstream), strict=True):
            assert mine.dtype == dtype
            assert error(mine, true) <= tolerance

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    @pytest.mark.parametrize("shape", [(21, 17, 1001), (21, 17, 3001), (64, 32, 300)], ids=str)
    @pytest.mark.parametrize("kept", [None, 0])
    @pytest.mark.parametrize("fast", [True, False])
    @pytest.mark.usefixtures("each_way")
    def test_half_precision_is_at_most_as_far_off_as_the_reference(
        self, dtype: torch.dtype, shape: tuple[int, int, int], kept: int | None, fast: bool,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        monkeypatch.setattr(xtr_chunks, "has_fast_bfloat16", lambda: fast)
        inputs, targets = self.inputs(*shape, dtype), self.targets(shape[0], shape[2])
        upstream = self.upstream(shape[0])
        got = loss_and_gradients(inputs, targets, upstream, workspace_mb=kept)
        same = loss_and_gradients(inputs, targets, upstream, impl="reference")
        true = truth(inputs, targets, upstream)
        assert got[0].dtype == torch.float32
        for mine, reference, exact in zip(got, same, true, strict=True):
            assert mine.dtype == reference.dtype
            assert error(mine, exact) <= 1.5 * error(reference, exact) + 1e-3

    @pytest.mark.parametrize("wanted", list(itertools.product([False, True], repeat=2)), ids=str)
    @pytest.mark.parametrize("kept", [None, 0])
    def test_every_subset_of_requires_grad(self, wanted: tuple[bool, ...], kept: int) -> None:
        inputs, targets = self.inputs(5, 4, 300), self.targets(5, 300)
        for tensor, needs in zip(inputs, wanted, strict=True):
            tensor.requires_grad_(needs)
        loss = xtr_loss(*inputs, targets, workspace_mb=kept)
        assert loss.requires_grad == any(wanted)
        if any(wanted):
            loss.backward()
            assert [x.grad is not None for x in inputs] == list(wanted)
            true = truth(inputs, targets, torch.full((5,), 0.2, device=self.device))
            for tensor, want in zip([x for x in inputs if x.requires_grad], true[1:], strict=True):
                assert error(tensor.grad, want) < 3e-6

    @pytest.mark.parametrize("kept", [None, 0])
    def test_gradcheck(self, kept: int | None) -> None:
        inputs, targets = self.inputs(3, 2, 7, torch.float64), self.targets(3, 7)

        def rows(*inputs: Tensor) -> Tensor:
            return xtr_loss(*inputs, targets, reduction="none", workspace_mb=kept)

        assert torch.autograd.gradcheck(rows, inputs)

    @pytest.mark.parametrize("wanted", list(itertools.product([False, True], repeat=2)), ids=str)
    def test_opcheck(self, wanted: tuple[bool, bool]) -> None:
        self.check_operators(torch.float32, *wanted)

    def check_operators(self, dtype: torch.dtype, *wanted: bool) -> None:
        inputs, t = self.inputs(4, 3, 50, dtype), self.targets(4, 50)
        t = t.sorted_by_word() if all(wanted) else t
        for tensor, needs in zip(inputs, wanted, strict=True):
            tensor.requires_grad_(needs)
        bags = t.indptr, t.indices, t.weights, t.by_word
        arguments = (*inputs, *bags, dtype, *wanted, 1 << 20)
        torch.library.opcheck(xtr_fused.xtr_forward, arguments)
        saved = [x.detach() for x in xtr_fused.xtr_forward(*arguments)]
        hidden, weight = (x.detach() for x in inputs)
        upstream = torch.ones(4, device=self.device)
        torch.library.opcheck(
            xtr_fused.xtr_weight_gradient,
            (upstream, hidden, weight, *bags, *saved[1:3], *saved[4:], dtype),
        )
        if wanted[0]:
            torch.library.opcheck(xtr_fused.xtr_hidden_gradient, (upstream, saved[3], dtype))

    def test_no_second_derivative_and_it_says_so(self) -> None:
        (hidden, weight), targets = self.inputs(4, 3, 9), self.targets(4, 9)
        loss = xtr_loss(hidden, weight, targets)
        for gradient in torch.autograd.grad(loss, [hidden, weight], create_graph=True):
            with pytest.raises(BackendError, match="impl='reference'"):
                gradient.sum().backward(retain_graph=True)

    @pytest.mark.parametrize("autocast", [False, True])
    def test_compiles_without_a_graph_break(self, autocast: bool) -> None:
        torch._dynamo.reset()
        inputs, targets = self.inputs(6, 5, 90), self.targets(6, 90)

        def loss(hidden: Tensor, weight: Tensor, targets: BagOfWords) -> Tensor:
            with torch.autocast(self.device, torch.bfloat16, enabled=autocast):
                rounded = xtr_loss(hidden * 2, weight, targets)
            return rounded + contrastive_loss(hidden, hidden * 3)

        results = []
        for run in (loss, torch.compile(loss, fullgraph=True, backend="aot_eager")):
            value = run(*inputs, targets)
            results.append([value, *torch.autograd.grad(value, inputs)])
        torch.testing.assert_close(*results, rtol=1e-6, atol=1e-7)

    def test_an_empty_batch_trains_on_nothing(self) -> None:
        hidden, weight = self.inputs(0, 4, 9)
        loss = xtr_loss(hidden, weight, self.targets(0, 9))
        loss.backward()
        assert loss.item() == 0
        assert hidden.grad.shape == (0, 4)
        assert not weight.grad.any()

    @pytest.mark.parametrize("kept", [None, 0])
    def test_large_logits_neither_overflow_nor_vanish(self, kept: int | None) -> None:
        hidden = torch.tensor([[300.0], [-300.0], [0.0]], device=self.device, requires_grad=True)
        weight = torch.linspace(-40, 40, 901, device=self.device)[:, None].requires_grad_()
        inputs, targets, ones = (
            [hidden, weight],
            self.targets(3, 901),
            torch.ones_like(hidden[:, 0]),
        )
        got = loss_and_gradients(inputs, targets, ones, workspace_mb=kept)
        for mine, true in zip(got, truth(inputs, targets, ones), strict=True):
            assert error(mine, true) < 1e-5

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
    @pytest.mark.parametrize("where", [0, 1])
    @pytest.mark.usefixtures("each_way")
    def test_nan_and_inf_reach_the_loss(self, bad: float, where: int) -> None:
        inputs, targets = self.inputs(4, 3, 700), self.targets(4, 700, seed=1)
        with torch.no_grad():
            inputs[where][2, 1] = bad
        loss = xtr_loss(*inputs, targets)
        loss.backward()
        assert loss.isnan()
        assert inputs[1].grad.isnan().any()


class TestOnCpu(XtrTests):
    @pytest.fixture(params=SHAPES, ids=str)
    def shape(self, request: pytest.FixtureRequest) -> tuple[int, int, int]:
        return request.param

    @pytest.fixture
    def each_way(self, isa: str) -> None:
        """By every instruction set."""


class CudaTests(XtrTests):
    @pytest.fixture(params=CUDA_SHAPES, ids=str)
    def shape(self, request: pytest.FixtureRequest) -> tuple[int, int, int]:
        return request.param

    @pytest.fixture(params=[1 << 30, 1], ids=["one chunk", "chunks"])
    def each_way(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        """In one chunk and in many."""
        monkeypatch.setattr(xtr_chunks, "CUDA_CHUNK_BYTES", request.param)
        monkeypatch.setattr(xtr_chunks, "CHUNK_WORDS_MIN", 100)

    def test_opcheck_in_float16(self) -> None:
        self.check_operators(torch.float16, True, True)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here")
class TestOnGpu(CudaTests):
    device = "cuda"


@pytest.mark.usefixtures("on_shim")
class TestOnShim(CudaTests):
    """The CUDA path, executed by the CPU: every line that a GPU would run."""

    @pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
    def test_gradients_of_a_mean_over_many_flat_rows_do_not_vanish(
        self, dtype: torch.dtype
    ) -> None:
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
    @pytest.mark.usefixtures("each_way")
    def test_logits_kept_or_made_again(self, kept: int | None) -> None:
        inputs, targets = make_inputs(40, 6, 700, torch.float64), make_targets(40, 700)
        upstream = torch.linspace(-1, 2, 40)
        got = loss_and_gradients(inputs, targets, upstream, workspace_mb=kept)
        for mine, true in zip(got, truth(inputs, targets, upstream), strict=True):
            assert error(mine, true) < 1e-13

    def test_no_order_of_threads_changes_a_bit(self, on_shim: ModuleType) -> None:  # noqa: F811
        inputs, targets = make_inputs(70, 6, 300), make_targets(70, 300)
        upstream = torch.linspace(-1, 2, 70)
        results = []
        for seed in range(4):
            on_shim.seed(seed)
            results.append(loss_and_gradients(inputs, targets, upstream))
        for other in results[1:]:
            assert all(torch.equal(x, y) for x, y in zip(results[0], other, strict=True))

    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    @pytest.mark.usefixtures("each_way")
    def test_targets_sorted_ahead_change_no_bit(self, dtype: torch.dtype) -> None:
        inputs, targets = make_inputs(41, 6, 300, dtype), make_targets(41, 300)
        upstream = torch.linspace(-1, 2, 41)
        want = loss_and_gradients(inputs, targets, upstream)
        got = loss_and_gradients(inputs, targets.sorted_by_word(), upstream)
        assert all(torch.equal(x, y) for x, y in zip(got, want, strict=True))

    def test_kernels_see_whole_lines_and_scatter_once(
        self,
        on_shim: ModuleType,  # noqa: F811
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Of a float32 weight whose batch is odd, in many chunks; sorting is done ahead."""
        monkeypatch.setattr(xtr_chunks, "CUDA_CHUNK_BYTES", 1)
        calls: list[tuple[str, tuple[object, ...]]] = []
        run = native.Kernels.run

        def noted(self: native.Kernels, name: str, *arguments: object) -> object:
            calls.append((name, arguments))
            return run(self, name, *arguments)

        monkeypatch.setattr(native.Kernels, "run", noted)
        inputs, targets = make_inputs(41, 6, 1000), make_targets(41, 1000).sorted_by_word()
        monkeypatch.setattr(torch, "sort", None)
        loss_and_gradients(inputs, targets, torch.ones(41))
        chunks = [arguments[0] for name, arguments in calls if name == "xtr_softmax"]
        assert len(chunks) == 4
        assert {e.stride(0) for e in chunks} == {44}
        (scatter,) = [arguments for name, arguments in calls if name == "xtr_scatter"]
        assert scatter[-5:-1] == (0, 1000, 41, 6)  # from the first word on, all of them

    @pytest.mark.parametrize("end", [5, 1 << 40])
    def test_entries_that_are_said_to_go_on_are_not_read(self, end: int) -> None:
        hidden, weight = make_inputs(3, 4, 50)
        targets = make_targets(3, 50).sorted_by_word()
        assert targets.by_word is not None
        targets.by_word[1, -1] = targets.by_word.shape[1] + end
        xtr_loss(hidden, weight, targets).backward()
        assert weight.grad.isfinite().all()

    @pytest.mark.parametrize("word", [-1, 50, 1 << 40])
    def test_an_id_outside_of_the_vocabulary_is_not_read(self, word: int) -> None:
        hidden, weight = make_inputs(3, 4, 50)
        targets = BagOfWords(
            torch.tensor([0, 2, 3, 4]), torch.tensor([1, 2, word, 3]), torch.full((4,), 0.5)
        )
        loss = xtr_loss(hidden, weight, targets, reduction="none")
        assert loss.isnan().tolist() == [False, True, False]

    @pytest.mark.parametrize("indptr", [[0, 2, 99, 4], [-5, 2, 3, 4], [0, 3, 1, 4]])
    def test_positions_that_do_not_ascend_stay_in_bounds(self, indptr: list[int]) -> None:
        hidden, weight = make_inputs(3, 4, 50)
        targets = BagOfWords(
            torch.tensor(indptr), torch.tensor([1, 2, 3, 4]), torch.full((4,), 0.5)
        )
        xtr_loss(hidden, weight, targets).backward()
        assert weight.grad.shape == (50, 4)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weightings_and_reductions(weighting: str, reduction: str) -> None:
    (hidden, weight), targets = make_inputs(6, 5, 40), make_targets(6, 40, weighting)
    got = xtr_loss(hidden, weight, targets, reduction=reduction)
    want = xtr_loss(hidden, weight, targets, reduction=reduction, impl="reference")
    torch.testing.assert_close(got, want)
    gradients = [torch.autograd.grad(x.sum(), [hidden, weight]) for x in (got, want)]
    torch.testing.assert_close(*gradients)


def test_proper_distributions_give_the_kl_divergence() -> None:
    hidden, weight = make_inputs(4, 5, 30, torch.float64)
    ids = torch.tensor([[3, 3, 7], [0, 1, 2], [29, 29, 29], [4, 5, 4]])
    targets = BagOfWords.from_padded(ids, torch.full((4,), 3))
    label = torch.zeros(4, 30, dtype=torch.float64).scatter_add_(
        1, ids, torch.full((4, 3), 1 / 3, dtype=torch.float64)
    )
    want = torch.nn.functional.kl_div(
        (hidden @ weight.T).log_softmax(1), label, reduction="batchmean"
    )
    # The targets' weights are float32.
    assert xtr_loss(hidden, weight, targets).item() == pytest.approx(want.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("indptr", "indices", "weights"),
    [
        ([0, 2, 3, 4], [1, 2, 50, 3], [0.5] * 4),
        ([0, 2, 3, 4], [1, 2, -1, 3], [0.5] * 4),
        ([0, 2, 3, 4], [1, 2, 1 << 40, 3], [0.5] * 4),
        ([0, 2, 3, 4], [1, 2, -(1 << 63), 3], [0.5] * 4),
        ([0, 2, 99, 4], [1, 2, 3, 4], [0.5] * 4),
        ([-5, 2, 3, 4], [1, 2, 3, 4], [0.5] * 4),
        ([0, 3, 1, 4], [1, 2, 3, 4], [0.5] * 4),
        ([0, (1 << 63) - 1, -(1 << 63), 4], [1, 2, 3, 4], [0.5] * 4),
        ([0, (1 << 63) - 1, -2, 4], [1, 2, 3, 4], [0.5] * 4),
        ([0, 2, 3, 5], [1, 2, 3, 4], [0.5] * 4),
        ([0, 2, 3, 4], [1, 2, 3, 4], [0.5] * 3),
        ([0, 2, 3, 4], [1, 2, 3, 4], [0.5, 0.5, float("nan"), 0.5]),
        ([0, 2, 3, 4], [1, 2, 3, 4], [0.5, 0.5, float("inf"), 0.5]),
        ([0, 2, 3, 4], [1, 2, 3, 4], [0.5, 0.5, -0.1, 0.5]),
    ],
)
def test_a_bad_bag_is_an_error_and_never_read(
    indptr: list[int], indices: list[int], weights: list[float]
) -> None:
    hidden, weight = make_inputs(3, 4, 50)
    bags = BagOfWords(torch.tensor(indptr), torch.tensor(indices), torch.tensor(weights))
    with pytest.raises(InputError, match=r"targets\."):
        xtr_loss(hidden, weight, bags)


def test_bags_that_were_changed_are_checked_again() -> None:
    hidden, weight = make_inputs(3, 4, 50)
    targets = make_targets(3, 50)
    xtr_loss(hidden, weight, targets)
    targets.indices.add_(1_000_000_000)
    with pytest.raises(InputError, match="outside of the vocabulary"):
        xtr_loss(hidden, weight, targets)


@pytest.mark.parametrize("chunk", [7, 64, 1000])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("kept_words", [0, 70, 1000])
def test_chunks_and_threads_do_not_change_the_result(
    chunk: int, threads: int, kept_words: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, targets = make_inputs(9, 5, 200, torch.float64), make_targets(9, 200)
    upstream = torch.linspace(-1, 2, 9)
    want = truth(inputs, targets, upstream)
    monkeypatch.setattr(xtr_chunks, "chunk_words", lambda B, V, dtype, device: min(chunk, V))
    monkeypatch.setattr(
        xtr_chunks, "kept_words",
        lambda B, V, dtype, chunk, budget: min(kept_words // chunk * chunk, V),
    )  # fmt: skip
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        got = loss_and_gradients(inputs, targets, upstream)
        again = loss_and_gradients(inputs, targets, upstream)
    finally:
        torch.set_num_threads(before)
    for mine, repeated, true in zip(got, again, want, strict=True):
        assert torch.equal(mine, repeated)
        assert error(mine, true) < 1e-13


def test_kernels_give_the_same_bits_at_every_thread_count(isa: str) -> None:
    B, n = 700, 333
    logits = torch.randn(n, B, generator=torch.Generator().manual_seed(0))
    results = []
    for threads in (1, 2, 5):
        z, shift = logits.clone(), torch.full((B,), -torch.inf)
        total, rescale = torch.zeros(B, dtype=torch.float64), torch.empty(B)
        kernels().xtr_softmax(z, shift, total, rescale, None, 0, n, B, threads)
        results.append((z, shift, total))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))
    want = logits.double().logsumexp(0)
    assert error(results[0][1].double() + results[0][2].log(), want) < 1e-7


def test_non_contiguous_inputs_are_read_right_and_left_alone() -> None:
    hidden, weight = torch.randn(5, 6).T.requires_grad_(), torch.randn(5, 80).T.requires_grad_()
    before = hidden.detach().clone(), weight.detach().clone()
    targets = make_targets(6, 80)
    upstream = torch.linspace(1, 2, 12)[::2]
    got = loss_and_gradients([hidden, weight], targets, upstream)
    for mine, true in zip(got, truth([hidden, weight], targets, upstream), strict=True):
        assert error(mine, true) < 3e-6
    assert torch.equal(hidden, before[0])
    assert torch.equal(weight, before[1])


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(
        st.dictionaries(st.integers(0, 39), st.floats(0, 4, width=32), max_size=6),
        min_size=1,
        max_size=7,
    ),
    seed=st.integers(0, 1000),
)
def test_any_sparse_target(rows: list[dict[int, float]], seed: int) -> None:
    indptr = torch.tensor([0, *(len(r) for r in rows)]).cumsum(0)
    targets = BagOfWords(
        indptr,
        torch.tensor([w for r in rows for w in sorted(r)], dtype=torch.int64),
        torch.tensor([r[w] for r in rows for w in sorted(r)], dtype=torch.float32),
    )
    generator = torch.Generator().manual_seed(seed)
    inputs = [
        torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_()
        for shape in ((len(rows), 3), (40, 3))
    ]
    upstream = torch.randn(len(rows), generator=generator)
    got = loss_and_gradients(inputs, targets, upstream)
    for mine, true in zip(got, truth(inputs, targets, upstream), strict=True):
        assert error(mine, true) < 1e-11


@pytest.mark.parametrize("bfloat16_hidden", [False, True])
def test_autocast_is_a_linear_layer_in_its_dtype(bfloat16_hidden: bool) -> None:
    inputs, targets = make_inputs(30, 24, 3000), make_targets(30, 3000)
    if bfloat16_hidden:
        inputs[0] = inputs[0].detach().bfloat16().requires_grad_()
    upstream = torch.linspace(-1, 2, 30)
    true = truth(inputs, targets, upstream)
    with torch.autocast("cpu", torch.bfloat16):
        got = loss_and_gradients(inputs, targets, upstream)
        same = loss_and_gradients(inputs, targets, upstream, impl="reference")
    assert [x.dtype for x in got] == [torch.float32, inputs[0].dtype, torch.float32]
    for mine, reference, exact in zip(got, same, true, strict=True):
        assert error(mine, exact) <= 1.5 * error(reference, exact) + 1e-3


def test_the_gradient_of_weight_is_recycled_not_copied() -> None:
    hidden, weight = make_inputs(4, 64, 9000)
    targets, addresses = make_targets(4, 9000), set()
    for _ in range(3):
        hidden.grad = weight.grad = None
        xtr_loss(hidden, weight, targets).backward()
        addresses.add(weight.grad.data_ptr())
    assert len(addresses) == 1


def test_a_gradient_that_is_still_used_is_never_overwritten() -> None:
    hidden, weight = make_inputs(4, 64, 9000)
    targets = make_targets(4, 9000)
    first = torch.autograd.grad(xtr_loss(hidden, weight, targets), weight)[0]
    copy, row = first.clone(), first[17]
    torch.autograd.grad(xtr_loss(hidden * 3, weight, targets), weight)
    assert torch.equal(first, copy)
    del first
    torch.autograd.grad(xtr_loss(hidden * 3, weight, targets), weight)
    assert torch.equal(row, copy[17])


def test_the_pool_keeps_to_its_limit() -> None:
    pool = workspace.Pool(3 * workspace.MIB)
    tensors = [pool.empty((2, 256, 1024), torch.float32) for _ in range(2)]
    assert all(t.data_ptr() % workspace.ALIGNMENT == 0 for t in tensors)
    assert pool.idle_bytes == 0
    del tensors
    assert pool.idle_bytes == 2 * workspace.MIB


def test_limits_come_from_the_environment(tmp_path: Path) -> None:
    code = "from ems_fast.ops import workspace; print(workspace.budget())"
    run = functools.partial(  # elsewhere than in the source tree
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    good = run(env={**os.environ, "EMS_FAST_WORKSPACE_MB": "7"})
    assert int(good.stdout) == 7 * workspace.MIB
    bad = run(env={**os.environ, "EMS_FAST_POOL_MB": "-1"})
    assert "EMS_FAST_POOL_MB: got '-1'" in bad.stderr


def test_backward_twice_gives_the_same() -> None:
    (hidden, weight), targets = make_inputs(5, 4, 300), make_targets(5, 300)
    loss = xtr_loss(hidden, weight, targets)
    first = torch.autograd.grad(loss, [hidden, weight], retain_graph=True)
    second = torch.autograd.grad(loss, [hidden, weight])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


# The first compilation imports parts of torch that warn about other parts of torch.
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_compiled_reference_matches() -> None:
    (hidden, weight), targets = make_inputs(5, 4, 300), make_targets(5, 300)
    got = xtr_loss(hidden, weight, targets, impl="compiled")
    torch.testing.assert_close(got, xtr_loss(hidden, weight, targets, impl="reference"))


def test_a_failing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(
        impl, "_compiled", lambda reference, _: torch.compile(reference, backend=broken)
    )
    (hidden, weight), targets = make_inputs(5, 4, 300), make_targets(5, 300)
    with pytest.raises(BackendError, match=r"impl='compiled'.*no compiler here.*impl='fused'"):
        xtr_loss(hidden, weight, targets, impl="compiled")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"hidden": torch.ones(4, 3, dtype=torch.int64)}, "hidden: dtype int64"),
        ({"hidden": torch.ones(4)}, "hidden: shape"),
        ({"weight": torch.ones(9, 4)}, "weight: width 4, expected hidden's D = 3"),
        ({"weight": torch.ones(0, 3)}, "weight: no rows"),
        ({"weight": torch.ones(9, 3, dtype=torch.float64)}, "weight: dtype float64"),
        ({"weight": torch.ones(5, 3)}, "outside of the vocabulary, expected 0 to 4"),
        ({"hidden": torch.ones(3, 3)}, "targets: 4 rows for 3 rows of hidden"),
        ({"hidden": torch.ones(4, 3, device="meta")}, "weight: on cpu"),
        ({"workspace_mb": -1}, "workspace_mb: got -1"),
        ({"impl": "magic"}, "impl: got 'magic'"),
        ({"reduction": "max"}, "reduction: got 'max'"),
    ],
)
def test_bad_arguments(change: dict[str, object], message: str) -> None:
    targets = BagOfWords.from_padded(torch.tensor([[7, 8]] * 4), torch.full((4,), 2))
    arguments = {"hidden": torch.ones(4, 3), "weight": torch.ones(9, 3), "targets": targets}
    with pytest.raises(InputError, match=message):
        xtr_loss(**{**arguments, **change})


def test_a_float16_weight_has_no_kernels_under_autocast_to_bfloat16() -> None:
    hidden, weight = make_inputs(4, 3, 9, torch.float16)
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(InputError, match="weight: dtype float16 under autocast to bfloat16"),
    ):
        xtr_loss(hidden, weight, make_targets(4, 9))


def test_bindings_check_the_dtype_that_they_are_given() -> None:
    for dtype in (-1, 3):
        with pytest.raises(ValueError, match=f"dtype: got {dtype}, expected 0 to 2"):
            kernels().xtr_accumulate(None, None, None, dtype, False, 0, 1)


def test_a_device_without_kernels_is_named() -> None:
    targets = make_targets(4, 9).to("meta")
    with pytest.raises(BackendError, match=r"kernels for cpu.* tensors, got meta"):
        xtr_loss(torch.ones(4, 3, device="meta"), torch.ones(9, 3, device="meta"), targets)
