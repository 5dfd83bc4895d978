from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cuda_shim import on_shim, shim  # noqa: F401 - fixtures
from torch import Tensor

from ems_fast import BackendError, InputError, contrastive_loss
from ems_fast.ops import impl as switches
from ems_fast.ops import native
from ems_fast.ops.contrastive import fused as contrastive_fused
from ems_fast.ops.contrastive import kernels as contrastive_kernels
from ems_fast.ops.contrastive.reference import contrastive_loss_reference
from ems_fast.ops.gemm import can_round

# (B, M, E): one pair, one negative, odd sizes, several slabs.
SHAPES = [
    (1, 1, 1),
    (1, 2, 3),
    (2, 2, 5),
    (7, 13, 129),
    (67, 67, 33),
    (150, 211, 17),
]
TEMPERATURES = [0.005, 0.05, 0.1, 1.0, 10.0]
# Around a warp, a patch of 64 rows by 64 columns, and two of them.
EDGES = [1, 31, 32, 33, 63, 64, 65, 127, 128, 129]


def use_tiles(monkeypatch: pytest.MonkeyPatch, tile_bytes: int) -> None:
    """Tiles of this size, so that small batches need many; what fits one tile is kept."""
    for name in ("TILE_BYTES", "CUDA_TILE_BYTES", "KEPT_BYTES"):
        monkeypatch.setattr(contrastive_fused, name, tile_bytes)


@pytest.fixture
def threads() -> Iterator[Callable[[int], None]]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def vectors(rows: int, E: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(rows, E, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def few_ids(M: int, distinct: int, seed: int = 0) -> Tensor:
    """M hashes of which about `distinct` are different, both signs and large."""
    ids = torch.randint(0, distinct, (M,), generator=torch.Generator().manual_seed(seed))
    return (ids - 2) * 0x1234_5678_9ABC_DEF


def loss_and_gradients(
    loss: Callable[..., Tensor], a: Tensor, b: Tensor, temperature: float, **options: Any
) -> list[Tensor]:
    """The losses of all pairs, then the gradients of a weighted sum of them."""
    leaves = [a.detach().clone().requires_grad_(), b.detach().clone().requires_grad_()]
    tau = torch.tensor(temperature, dtype=torch.promote_types(a.dtype, torch.float32))
    tau.requires_grad_()
    losses = loss(*leaves, temperature=tau, reduction="none", **options)
    upstream = torch.linspace(-0.5, 2.0, len(losses), dtype=losses.dtype, device=losses.device)
    return [losses.detach(), *torch.autograd.grad(losses, [*leaves, tau], upstream)]


def assert_matches(
    got: list[Tensor], want: list[Tensor], tolerance: float, floor: list[Tensor] | None = None
) -> None:
    """Each of `got` within `tolerance` of `want`'s largest entry, or no worse than 2 × `floor`."""
    for i, (x, y) in enumerate(zip(got, want, strict=True)):
        assert torch.isfinite(x).all()
        scale = max(y.abs().max().item(), 1.0)
        allowed = tolerance * scale
        if floor is not None:
            allowed += 2 * (floor[i].double() - y).abs().max().item()
        assert (x.double() - y).abs().max().item() <= allowed, f"output {i}"


class ContrastiveTests:
    """What holds however the tensors reach the kernels; `each_way` is that, several times over."""

    device = "cpu"
    tiled = (101, 173)  # B and M of a batch of many tiles

    def vectors(self, rows: int, E: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return vectors(rows, E, dtype).to(self.device)

    def others(self, rows: int, E: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return vectors(rows, E, dtype, seed=1).to(self.device)

    def ids(self, M: int, distinct: int, seed: int = 0) -> Tensor:
        return few_ids(M, distinct, seed).to(self.device)

    @pytest.mark.parametrize("temperature", TEMPERATURES)
    @pytest.mark.parametrize(("B", "M", "E"), SHAPES)
    @pytest.mark.usefixtures("each_way")
    def test_float64_matches_reference(self, B: int, M: int, E: int, temperature: float) -> None:
        a, b = self.vectors(B, E), self.others(M, E)
        options = {"source_ids": self.ids(M, 2 * M), "target_ids": self.ids(M, M // 2 + 1, 1)}
        got = loss_and_gradients(contrastive_loss, a, b, temperature, **options)
        want = loss_and_gradients(contrastive_loss_reference, a, b, temperature, **options)
        assert_matches(got, want, 1e-12)

    @pytest.mark.parametrize("temperature", [0.005, 0.1])
    @pytest.mark.parametrize("masked", [False, True])
    @pytest.mark.parametrize("tile_bytes", [8, 1 << 9, 1 << 11, 1 << 14, 1 << 22])
    @pytest.mark.usefixtures("each_way")
    def test_tiles_do_not_matter(
        self, temperature: float, masked: bool, tile_bytes: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        B, M = self.tiled
        a, b = self.vectors(B, 9), self.others(M, 9)
        options: dict[str, Any] = {}
        if masked:
            options = {"source_ids": self.ids(M, 50), "target_ids": self.ids(M, 150, 1)}
            options["margin"] = 0.3
        want = loss_and_gradients(contrastive_loss_reference, a, b, temperature, **options)
        use_tiles(monkeypatch, tile_bytes)
        got = loss_and_gradients(contrastive_loss, a, b, temperature, **options)
        assert_matches(got, want, 1e-12)

    @pytest.mark.parametrize("temperature", [0.01, 0.1])
    def test_a_margin_is_taken_from_the_positives(self, temperature: float) -> None:
        a, b = self.vectors(6, 8), self.others(9, 8)
        u, v = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
        cosines = u @ v.T
        cosines[range(6), range(6)] -= 0.4
        scores = cosines / temperature
        positive = scores[:, :6].diagonal()
        want = (scores.logsumexp(1) + scores[:, :6].logsumexp(0)) / 2 - positive
        got = contrastive_loss(a, b, temperature=temperature, margin=0.4, reduction="none")
        torch.testing.assert_close(got, want)
        assert bool((got > contrastive_loss(a, b, temperature=temperature, reduction="none")).all())

    @pytest.mark.parametrize("hardness", [0.0, 7.0])
    @pytest.mark.parametrize("several", [False, True])
    @pytest.mark.parametrize(("B", "M", "E"), SHAPES)
    @pytest.mark.usefixtures("each_way")
    def test_options_match_reference(
        self, B: int, M: int, E: int, several: bool, hardness: float
    ) -> None:
        a, b = self.vectors(B, E), self.others(M, E)
        options = {"hardness": hardness, "several_positives": several, "margin": 0.2}
        for ids in (
            {},
            {"source_ids": self.ids(M, M // 3 + 1)},
            {"target_ids": self.ids(M, M // 3 + 1)},
            {"source_ids": self.ids(M, 2 * M), "target_ids": self.ids(M, M // 2 + 1, 1)},
        ):
            for temperature in (0.005, 0.1):
                got = loss_and_gradients(contrastive_loss, a, b, temperature, **options, **ids)
                want = loss_and_gradients(
                    contrastive_loss_reference, a, b, temperature, **options, **ids
                )
                assert_matches(got, want, 1e-11)

    @pytest.mark.parametrize("temperature", [0.005, 0.1])
    @pytest.mark.parametrize("tile_bytes", [8, 1 << 9, 1 << 14])
    @pytest.mark.usefixtures("each_way")
    def test_tiles_do_not_matter_to_options(
        self, temperature: float, tile_bytes: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        B, M = self.tiled
        a, b = self.vectors(B, 9), self.others(M, 9)
        options: dict[str, Any] = {"source_ids": self.ids(M, 50), "target_ids": self.ids(M, 90, 1)}
        options |= {"margin": 0.3, "hardness": 3.0, "several_positives": True}
        want = loss_and_gradients(contrastive_loss_reference, a, b, temperature, **options)
        use_tiles(monkeypatch, tile_bytes)
        got = loss_and_gradients(contrastive_loss, a, b, temperature, **options)
        assert_matches(got, want, 1e-11)

    def test_hardness_weighs_negatives_by_their_cosine(self) -> None:
        a, b = self.vectors(6, 8), self.others(9, 8)
        u, v = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
        e = (10 * u @ v.T).exp() * (4 * u @ v.T).exp()
        e[range(6), range(6)] = (10 * (u * v[:6]).sum(1)).exp()
        positive = e.diagonal().log()
        want = (e.sum(1).log() + e[:, :6].sum(0).log()) / 2 - positive
        got = contrastive_loss(a, b, temperature=0.1, hardness=4.0, reduction="none")
        torch.testing.assert_close(got, want)

    def test_several_positives_attract_alike(self) -> None:
        a, b = self.vectors(3, 8), self.others(4, 8)
        ids = torch.tensor([5, 6, 5, 5], device=self.device)
        u, v = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
        s = 10 * u @ v.T
        rows = s.logsumexp(1) - torch.stack(
            [s[0, [0, 2, 3]].mean(), s[1, 1], s[2, [0, 2, 3]].mean()]
        )
        square = s[:, :3]
        columns = square.logsumexp(0) - torch.stack(
            [square[[0, 2], 0].mean(), s[1, 1], square[[0, 2], 2].mean()]
        )
        got = contrastive_loss(a, b, source_ids=ids, several_positives=True, reduction="none")
        torch.testing.assert_close(got, (rows + columns) / 2)
        both = contrastive_loss(
            a, b, source_ids=ids, target_ids=ids, several_positives=True, reduction="none"
        )
        torch.testing.assert_close(both, got)  # twice the same text counts once

    @pytest.mark.parametrize("needs", [(True, True), (True, False), (False, True)])
    @pytest.mark.parametrize("temperature", [0.005, 0.1])
    @pytest.mark.parametrize(("widths", "weight"), [((1,), 1.0), ((3, 8, 15), 0.25)])
    def test_first_coordinates_have_the_loss_of_an_embedding(
        self, widths: tuple[int, ...], weight: float, temperature: float,
        needs: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch,
    ) -> None:  # fmt: skip
        a, b = self.vectors(40, 16), self.others(50, 16)
        a[3, : widths[0]] = 0  # no embedding at the first width
        options: dict[str, Any] = {"source_ids": self.ids(50, 40), "margin": 0.2, "hardness": 2.0}
        options |= {"temperature": temperature, "reduction": "none"}
        found = []
        for tile_bytes, matryoshka in ((1 << 12, widths), (1 << 22, widths), (1 << 22, None)):
            use_tiles(monkeypatch, tile_bytes)
            x, y = (v.clone().requires_grad_(need) for v, need in zip((a, b), needs, strict=True))
            if matryoshka:
                losses = contrastive_loss(
                    x, y, matryoshka=matryoshka, matryoshka_weight=weight, **options
                )
            else:
                parts = [
                    contrastive_loss_reference(x[:, :w], y[:, :w], **options) for w in (*widths, 16)
                ]
                weights = a.new_tensor([weight] * len(widths) + [1.0])
                losses = torch.stack(parts, 1) @ weights / weights.sum()
            upstream = torch.linspace(-0.5, 2.0, 40, dtype=a.dtype, device=a.device)
            inputs = [v for v in (x, y) if v.requires_grad]
            found.append([losses.detach(), *torch.autograd.grad(losses, inputs, upstream)])
        for got in found[:2]:
            assert_matches(got, found[2], 1e-11)

    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    @pytest.mark.parametrize("several", [False, True])
    def test_an_empty_batch_trains_on_nothing(self, reduction: str, several: bool) -> None:
        a, b = self.vectors(0, 4).requires_grad_(), self.vectors(3, 4).requires_grad_()
        loss = contrastive_loss(a, b, reduction=reduction, several_positives=several)
        assert loss.shape == ((0,) if reduction == "none" else ())
        assert not loss.any()
        loss.sum().backward()
        assert a.grad is not None
        assert a.grad.shape == (0, 4)
        torch.testing.assert_close(b.grad, torch.zeros_like(b))

    @pytest.mark.parametrize("temperature", [0.005, 0.1, 10.0])
    def test_zero_and_equal_vectors(self, temperature: float) -> None:
        a, b = self.vectors(5, 8), self.others(6, 8)
        a[1] = 0
        b[2] = 0
        b[4] = b[0] = a[0]
        got = loss_and_gradients(contrastive_loss, a, b, temperature)
        want = loss_and_gradients(contrastive_loss_reference, a, b, temperature)
        for x, y in zip(got, want, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-10, atol=1e-12)
        everything_equal = contrastive_loss(a[:1].expand(4, -1) + 1, b[:1].expand(4, -1) + 1)
        torch.testing.assert_close(everything_equal, a.new_tensor(4.0).log())

    @pytest.mark.parametrize("temperature", [0.005, 0.1])
    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    @pytest.mark.usefixtures("each_way")
    def test_nan_reaches_the_loss(self, temperature: float, value: float) -> None:
        a, b = self.vectors(70, 8, torch.float32), self.others(70, 8, torch.float32)
        b[66, 3] = value
        b.requires_grad_()
        loss = contrastive_loss(a, b, temperature=temperature)
        assert loss.isnan()
        loss.backward()
        assert b.grad is not None
        assert b.grad.isnan().any()

    @pytest.mark.parametrize("temperature", [0.005, 0.1])
    def test_a_batch_of_duplicates_has_no_negatives(
        self, temperature: float, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use_tiles(monkeypatch, 1 << 11)
        a, b = self.vectors(80, 8).requires_grad_(), self.others(80, 8).requires_grad_()
        same = torch.full((80,), 7, device=self.device)
        loss = contrastive_loss(a, b, temperature=temperature, source_ids=same, reduction="none")
        loss.sum().backward()
        torch.testing.assert_close(loss, torch.zeros_like(loss))
        torch.testing.assert_close(a.grad, torch.zeros_like(a))
        torch.testing.assert_close(b.grad, torch.zeros_like(b))

    @pytest.mark.parametrize("needs", list(itertools.product([False, True], repeat=3))[1:])
    @pytest.mark.parametrize("tile_bytes", [1 << 9, 1 << 22])
    def test_gradients_of_any_subset(
        self, needs: tuple[bool, ...], tile_bytes: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use_tiles(monkeypatch, tile_bytes)
        tau = torch.tensor(0.2, dtype=torch.float64)
        leaves = [self.vectors(9, 5), self.others(12, 5), tau]
        grads = []
        for impl in ("fused", "reference"):
            inputs = [x.clone().requires_grad_(need) for x, need in zip(leaves, needs, strict=True)]
            contrastive_loss(
                inputs[0], inputs[1], temperature=inputs[2], margin=0.1, impl=impl
            ).backward()
            grads.append([x.grad for x in inputs])
        for got, want, need in zip(*grads, needs, strict=True):
            assert (got is not None) == (want is not None) == need
            if need:
                torch.testing.assert_close(got, want)

    @pytest.mark.parametrize("several", [False, True])
    @pytest.mark.parametrize("temperature", [0.002, 0.1, 0.3])
    def test_gradcheck(self, temperature: float, several: bool) -> None:
        a, b = self.vectors(4, 3).requires_grad_(), self.others(6, 3).requires_grad_()
        tau = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
        ids = torch.tensor([1, 2, 3, 3, 4, 1], device=self.device)

        def loss(a: Tensor, b: Tensor, tau: Tensor) -> Tensor:
            return contrastive_loss(
                a, b, temperature=tau, source_ids=ids, margin=0.25, several_positives=several,
                reduction="none",
            )  # fmt: skip

        assert torch.autograd.gradcheck(loss, (a, b, tau), eps=1e-7, atol=1e-4, rtol=1e-4)

    @pytest.mark.parametrize("temperature", [0.005, 0.1])
    def test_of_the_weights_of_negatives_no_gradient_is_taken(self, temperature: float) -> None:
        """The gradient is that of a loss whose weights are constants."""
        a, b = self.vectors(5, 4).requires_grad_(), self.others(7, 4)
        u, v = (x / x.norm(dim=1, keepdim=True) for x in (a, b))
        weight = (3 * (u @ v.T).detach()).fill_diagonal_(0)
        scores = u @ v.T / temperature + weight
        positive = scores.diagonal()
        want = (scores.logsumexp(1) + scores[:, :5].logsumexp(0)).sum() / 2 - positive.sum()
        got = contrastive_loss(a, b, temperature=temperature, hardness=3.0, reduction="sum")
        torch.testing.assert_close(
            torch.autograd.grad(got, a), torch.autograd.grad(want, a), rtol=1e-10, atol=1e-10
        )

    @pytest.mark.parametrize("several", [False, True])
    @pytest.mark.parametrize("B", [3, 40])
    @pytest.mark.parametrize("tile_bytes", [1 << 9, 1 << 20])
    def test_opcheck(
        self, B: int, tile_bytes: int, several: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        use_tiles(monkeypatch, tile_bytes)
        a, b = self.vectors(B, 4).requires_grad_(), self.others(B + 2, 4).requires_grad_()
        tau = torch.tensor(0.1, dtype=torch.float64, requires_grad=True)
        ids = self.ids(B + 2, B)
        torch.library.opcheck(
            contrastive_fused.contrastive_forward,
            (a, b, tau, ids, None, 0.2, 1.5, several, False),
        )
        _, *saved = contrastive_fused.contrastive_forward(
            a, b, tau, ids, None, 0.2, 1.5, several, False
        )
        saved = [x.detach() for x in saved]
        torch.library.opcheck(
            contrastive_fused.contrastive_backward,
            (a.new_ones(B), *saved, tau.detach(), ids, None, 0.2, 1.5, several, False, True, True),
        )


class TestOnCpu(ContrastiveTests):
    @pytest.fixture
    def each_way(self, isa: str) -> None:
        """By every instruction set."""


@pytest.mark.usefixtures("on_shim")
class TestOnShim(ContrastiveTests):
    """The CUDA path, executed by the CPU: every line that a GPU would run."""

    tiled = (70, 81)

    @pytest.fixture(params=["on the host", "on the device"])
    def each_way(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
        """By where the temperature is: on the device its value is unknown."""
        if request.param == "on the device":
            monkeypatch.setattr(contrastive_kernels, "_host_value", lambda temperature: None)

    @pytest.mark.parametrize("size", EDGES)
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_sizes_around_warps_and_patches(self, size: int, dtype: torch.dtype) -> None:
        a, b = vectors(size, size).to(dtype), vectors(size + 2, size, seed=1).to(dtype)
        options = {"source_ids": few_ids(size + 2, size)}
        wide = a.double(), b.double()
        true = loss_and_gradients(contrastive_loss_reference, *wide, 0.1, **options)
        same = loss_and_gradients(contrastive_loss_reference, a, b, 0.1, **options)
        got = loss_and_gradients(contrastive_loss, a, b, 0.1, **options)
        assert [x.dtype for x in got] == [x.dtype for x in same]
        assert_matches(got, true, 1e-6, floor=same)

    @pytest.mark.parametrize("several", [False, True])
    @pytest.mark.parametrize("temperature", [0.005, 0.1])
    def test_no_order_of_threads_changes_a_bit(
        self,
        on_shim: ModuleType,  # noqa: F811
        temperature: float,
        several: bool,
    ) -> None:
        a, b = vectors(70, 40, torch.float32), vectors(140, 40, torch.float32, seed=1)
        options = {"source_ids": few_ids(140, 60), "several_positives": several}
        results = []
        for seed in range(5):
            on_shim.seed(seed)
            results.append(loss_and_gradients(contrastive_loss, a, b, temperature, **options))
        for other in results[1:]:
            assert all(torch.equal(x, y) for x, y in zip(results[0], other, strict=True))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here")
class TestOnGpu(ContrastiveTests):
    device = "cuda"

    @pytest.fixture
    def each_way(self) -> None:
        """By the only one."""


@pytest.mark.parametrize("temperature", [*TEMPERATURES, 0.0345, 0.0325])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.usefixtures("isa")
def test_float32_is_as_accurate_as_the_reference(temperature: float, several: bool) -> None:
    a, b = vectors(150, 65, torch.float32), vectors(160, 65, torch.float32, seed=1)
    options: dict[str, Any] = {"source_ids": few_ids(160, 100)}
    if several:
        options |= {"several_positives": True, "hardness": 2.0, "margin": 0.2}
    truth = loss_and_gradients(
        contrastive_loss_reference, a.double(), b.double(), temperature, **options
    )
    same = loss_and_gradients(contrastive_loss_reference, a, b, temperature, **options)
    got = loss_and_gradients(contrastive_loss, a, b, temperature, **options)
    assert_matches(got, truth, 1e-6, floor=same)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("temperature", [0.01, 0.1])
def test_half_precision_computes_in_float32(dtype: torch.dtype, temperature: float) -> None:
    a, b = vectors(70, 64).to(dtype), vectors(70, 64, seed=1).to(dtype)
    got = loss_and_gradients(contrastive_loss, a, b, temperature)
    want = loss_and_gradients(contrastive_loss, a.float(), b.float(), temperature)
    assert got[0].dtype == torch.float32
    assert [x.dtype for x in got[1:3]] == [dtype, dtype]
    for x, y in zip(got, want, strict=True):
        torch.testing.assert_close(x, y.to(x.dtype), rtol=0, atol=0)


@pytest.mark.parametrize("temperature", [0.005, 0.1])
@pytest.mark.parametrize("tile_bytes", [1 << 17, 1 << 22])
@pytest.mark.parametrize("several", [False, True])
def test_threads_do_not_matter(
    temperature: float,
    several: bool,
    tile_bytes: int,
    threads: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use_tiles(monkeypatch, tile_bytes)
    a, b = vectors(300, 40), vectors(350, 40, seed=1)
    options = {"source_ids": few_ids(350, 200), "several_positives": several, "margin": 0.1}
    results = []
    for count in (1, 2, 5):
        threads(count)
        first = loss_and_gradients(contrastive_loss, a, b, temperature, **options)
        again = loss_and_gradients(contrastive_loss, a, b, temperature, **options)
        assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))
        results.append(first)
    for other in results[1:]:
        assert_matches(other, results[0], 1e-13)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_reductions(reduction: str) -> None:
    a, b = vectors(6, 4), vectors(9, 4, seed=1)
    got = contrastive_loss(a, b, reduction=reduction)
    want = contrastive_loss(a, b, reduction=reduction, impl="reference")
    torch.testing.assert_close(got, want)


def test_masking_equals_leaving_the_pair_out() -> None:
    """A pair whose only sibling is masked has the loss it would have without that sibling."""
    a, b = vectors(6, 8), vectors(6, 8, seed=1)
    ids = torch.tensor([10, 11, 12, 13, 14, 10])
    for name in ("source_ids", "target_ids"):
        masked = contrastive_loss(a, b, reduction="none", **{name: ids})
        alone = contrastive_loss(a[:5], b[:5], reduction="none")
        torch.testing.assert_close(masked[0], alone[0])
        assert (masked[1:5] > alone[1:5]).all()


def test_distinct_ids_change_nothing() -> None:
    a, b = vectors(20, 8), vectors(30, 8, seed=1)
    ids = torch.arange(30) * 1_000_003
    assert torch.equal(
        contrastive_loss(a, b, source_ids=ids, target_ids=ids), contrastive_loss(a, b)
    )


def test_inputs_may_be_views_and_stay_as_they_were() -> None:
    store = vectors(40, 24)
    a, b = store.t()[::2, ::3], store[:13, 1::2].as_strided((13, 14), (24, 1))
    ids = few_ids(26, 9)[::2]
    before = store.clone()
    got = contrastive_loss(a[:12], b, source_ids=ids)
    want = contrastive_loss(a[:12].contiguous(), b.contiguous(), source_ids=ids.contiguous())
    assert torch.equal(got, want)
    assert torch.equal(store, before)


@pytest.mark.parametrize("tile_bytes", [1 << 9, 1 << 22])
def test_backward_twice_gives_the_same(tile_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiles(monkeypatch, tile_bytes)
    a, b = vectors(20, 5).requires_grad_(), vectors(20, 5, seed=1).requires_grad_()
    loss = contrastive_loss(a, b)
    first = torch.autograd.grad(loss, [a, b], retain_graph=True)
    second = torch.autograd.grad(loss, [a, b])
    assert all(torch.equal(x, y) for x, y in zip(first, second, strict=True))


def test_no_second_derivative_and_it_says_so() -> None:
    a, b = vectors(4, 3).requires_grad_(), vectors(4, 3, seed=1).requires_grad_()
    (grad,) = torch.autograd.grad(contrastive_loss(a, b), a, create_graph=True)
    with pytest.raises(BackendError, match="impl='reference'"):
        grad.sum().backward()


@pytest.mark.parametrize("dynamic", [False, True])
def test_torch_compile_in_one_graph(dynamic: bool) -> None:
    def step(a: Tensor, b: Tensor, ids: Tensor) -> Tensor:
        return contrastive_loss(a * 2, b, source_ids=ids).exp()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    a, b = vectors(9, 5).requires_grad_(), vectors(9, 5, seed=1).requires_grad_()
    ids = few_ids(9, 5)
    got, want = compiled(a, b, ids), step(a, b, ids)
    torch.testing.assert_close(got, want)
    for x, y in zip(
        torch.autograd.grad(got, [a, b]), torch.autograd.grad(want, [a, b]), strict=True
    ):
        torch.testing.assert_close(x, y)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # the compiler's, about itself
def test_compiled_matches_reference() -> None:
    a, b = vectors(9, 5), vectors(12, 5, seed=1)
    options = {"source_ids": few_ids(12, 6)}
    got = loss_and_gradients(
        lambda *args, **named: contrastive_loss(*args, impl="compiled", **named),
        a,
        b,
        0.1,
        **options,
    )
    assert_matches(got, loss_and_gradients(contrastive_loss_reference, a, b, 0.1, **options), 1e-12)


@pytest.mark.parametrize(
    ("impl", "dtype"), [("fused", torch.float16), ("reference", torch.bfloat16)]
)
def test_autocast_does_not_lower_the_precision(impl: str, dtype: torch.dtype) -> None:
    a, b = vectors(30, 16, torch.float32), vectors(30, 16, torch.float32, seed=1)
    a.requires_grad_()
    want = contrastive_loss(a, b, impl=impl)
    with torch.autocast("cpu", dtype=dtype):
        got = contrastive_loss(a, b, impl=impl)
    assert torch.equal(got, want)
    (got_grad,), (want_grad,) = torch.autograd.grad(got, a), torch.autograd.grad(want, a)
    assert torch.equal(got_grad, want_grad)


@pytest.mark.usefixtures("isa")
@pytest.mark.parametrize("tile_bytes", [1 << 11, 1 << 20])
def test_autocast_to_bfloat16_rounds_operands_only(
    tile_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_tiles(monkeypatch, tile_bytes)
    a, b = vectors(67, 48, torch.float32), vectors(70, 48, torch.float32, seed=1)
    b[:67] += a

    def run() -> tuple[Tensor, ...]:
        x, y = a.clone().requires_grad_(), b.clone().requires_grad_()
        loss = contrastive_loss(x, y, temperature=0.1)
        return loss.detach(), *torch.autograd.grad(loss, [x, y])

    want = run()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = run()
    assert got[0].dtype == torch.float32
    exact = not can_round(torch.float32, a.device)
    for x, y in zip(got, want, strict=True):
        error = float((x - y).norm() / y.norm())
        assert error == 0 if exact else 1e-7 < error < 4e-3
    double = contrastive_loss(a.double(), b.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(contrastive_loss(a.double(), b.double()), double)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_properties(data: st.DataFrame | Any) -> None:
    B = data.draw(st.integers(1, 12), "B")
    extra = data.draw(st.integers(0, 8), "extra")
    M, E = B + extra, data.draw(st.integers(1, 9), "E")
    temperature = data.draw(st.floats(0.003, 10), "temperature")
    a = vectors(B, E, seed=data.draw(st.integers(0, 99), "seed"))
    b = vectors(M, E, seed=data.draw(st.integers(100, 199), "seed"))
    ids = few_ids(M, data.draw(st.integers(1, 20), "distinct"))
    options: dict[str, Any] = {"temperature": temperature, "reduction": "none"}
    loss = contrastive_loss(a, b, source_ids=ids, **options)
    want = contrastive_loss_reference(a, b, source_ids=ids, **options)
    torch.testing.assert_close(loss, want, rtol=1e-10, atol=1e-10)
    # Lengths do not matter, nor does the order of the pairs; more negatives never help.
    rows = torch.randperm(B, generator=torch.Generator().manual_seed(1))
    order = torch.cat([rows, torch.arange(B, M)])
    permuted = contrastive_loss(3 * a[rows], b[order] / 7, source_ids=ids[order], **options)
    torch.testing.assert_close(permuted, loss[rows], rtol=1e-10, atol=1e-10)
    fewer = contrastive_loss(a, b[:B], source_ids=ids[:B], **options)
    assert (fewer <= loss + 1e-10).all()
    # Both directions count alike.
    if extra == 0:
        swapped = contrastive_loss(b, a, source_ids=ids, **options)
        torch.testing.assert_close(swapped, loss, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"a": [[1.0, 2.0]]}, "a: got list"),
        ({"a": torch.zeros(4)}, r"a: shape \[4\]"),
        ({"a": torch.zeros(4, 0)}, r"a: shape \[4, 0\]"),
        ({"b": torch.zeros(4, 3, dtype=torch.int64)}, r"b: dtype torch\.int64"),
        ({"b": torch.zeros(5, 2)}, "b: 2 columns, expected a's 3"),
        ({"b": torch.zeros(3, 3)}, "b: 3 rows, expected at least a's 4"),
        ({"b": torch.zeros(5, 3, device="meta")}, "b: on meta"),
        ({"temperature": 0.0}, r"temperature: got 0\.0"),
        ({"temperature": -1}, r"temperature: got -1\.0"),
        ({"temperature": float("nan")}, "temperature: got nan"),
        ({"temperature": torch.tensor(-0.1)}, r"temperature: got -0\.1"),
        ({"temperature": torch.ones(1)}, "temperature: a torch.float32 tensor of shape"),
        ({"temperature": torch.tensor(1)}, r"temperature: a torch\.int64 tensor"),
        ({"margin": -0.1}, r"margin: got -0\.1"),
        ({"margin": 1}, "margin: got 1"),
        (
            {"matryoshka": (2, 1)},
            r"matryoshka: got \(2, 1\), expected ascending widths from 1 to 2",
        ),
        ({"matryoshka": (3,)}, r"matryoshka: got \(3,\)"),
        ({"matryoshka_weight": 0.0}, "matryoshka_weight: got 0.0, expected more than 0 and finite"),
        ({"matryoshka": (1.5,)}, r"matryoshka: got \(1\.5,\)"),
        ({"hardness": -1.0}, r"hardness: got -1\.0, expected 0 or more"),
        ({"hardness": float("nan")}, "hardness: got nan"),
        ({"temperature": "hot"}, "temperature: got 'hot'"),
        ({"source_ids": torch.zeros(5)}, r"source_ids: got torch\.float32"),
        ({"source_ids": [1, 2, 3, 4, 5]}, "source_ids: got list"),
        ({"target_ids": torch.zeros(4, dtype=torch.int64)}, r"target_ids: shape \[4\]"),
        ({"impl": "quick"}, "impl: got 'quick'"),
        ({"reduction": "max"}, "reduction: got 'max'"),
    ],
)
def test_bad_input_is_named(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"a": torch.zeros(4, 3), "b": torch.zeros(5, 3)} | change
    with pytest.raises(InputError, match=message):
        contrastive_loss(arguments.pop("a"), arguments.pop("b"), **arguments)


def test_a_device_without_kernels_is_named() -> None:
    x = torch.zeros(2, 3, device="meta")
    with pytest.raises(BackendError, match=r"impl='fused' has kernels for cpu.* tensors, got meta"):
        contrastive_loss(x, x)


def test_a_missing_extension_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "_kernels", None)
    with pytest.raises(BackendError, match="impl='reference'"):
        contrastive_loss(torch.ones(2, 3), torch.ones(2, 3))


def test_a_failing_compiler_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no compiler here")

    monkeypatch.setattr(
        switches, "_compiled", lambda reference, _: torch.compile(reference, backend=broken)
    )
    with pytest.raises(BackendError, match=r"impl='compiled'.*no compiler here.*impl='fused'"):
        contrastive_loss(torch.ones(2, 3), torch.ones(2, 3), impl="compiled")


@pytest.mark.parametrize("temperature", [0.005, 0.1])
def test_saved_tensors_may_be_moved(temperature: float) -> None:
    """Hooks that store what autograd keeps elsewhere give it back with other strides."""
    a, b = vectors(20, 5).requires_grad_(), vectors(22, 5, seed=1)
    (want,) = torch.autograd.grad(contrastive_loss(a, b, temperature=temperature), a)
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: x, lambda x: x.t().contiguous().t() if x.dim() == 2 else x.clone()
    ):
        loss = contrastive_loss(a, b, temperature=temperature)
    (got,) = torch.autograd.grad(loss, a)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)


def test_beyond_a_limit_a_batch_never_holds_the_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contrastive_fused, "KEPT_BYTES", 4 << 20)
    B = 3000
    a, b = vectors(B, 8, torch.float32).requires_grad_(), vectors(B, 8, torch.float32, seed=1)

    def largest_allocation(impl: str) -> int:
        activities = [torch.profiler.ProfilerActivity.CPU]
        with torch.profiler.profile(activities=activities, profile_memory=True) as profile:
            contrastive_loss(a, b, impl=impl).backward()
        return max(event.cpu_memory_usage for event in profile.events())

    assert largest_allocation("fused") <= contrastive_fused.TILE_BYTES + (1 << 18)
    assert largest_allocation("reference") >= B * B * 4
