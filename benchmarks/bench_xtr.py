"""XTR's loss, forward + backward, beside what it replaces.

    pytest benchmarks/bench_xtr.py --benchmark-enable -s [-k "512 or large"]

prints per shape: median time over interleaved rounds, its ratio to the fused loss and to the floor
(three bare matrix products of the same shapes and dtype), the peak extra memory, and the error of
the gradients against float64. XTR_ROUNDS (7) sets the rounds.

Memory: every way runs in a process of its own; after a warm-up on a small shape the kernel's
high-water mark of resident memory is reset (/proc/self/clear_refs) and read after one step. What is
printed is its rise, less the gradient of weight, which every way returns.
Error: the larger of the relative errors (2-norm) of the gradients of hidden and weight.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from baselines import losses as baselines
from torch import Tensor

from ems_fast import BagOfWords, xtr_loss

K = 30
ROUNDS = int(os.environ.get("XTR_ROUNDS", "7"))
SHAPES = [(512, 256, 60_000), (304, 1152, 60_000), (1024, 384, 16_000)]
Step = Callable[[], None]


class Case:
    """One shape's inputs, and the ways to a loss and its gradients."""

    def __init__(self, B: int, D: int, V: int) -> None:
        torch.manual_seed(0)
        self.shape = B, D, V
        self.hidden = torch.randn(B, D).requires_grad_()
        self.weight = (torch.randn(V, D) / D**0.5).requires_grad_()
        self.ids = torch.randint(0, V, (B, K))
        self.targets = BagOfWords.from_padded(self.ids, torch.full((B,), K), vocab_size=V)

    def ways(self) -> dict[str, Step]:
        h, w, t, ids = self.hidden, self.weight, self.targets, self.ids
        losses: dict[str, Callable[[], Tensor]] = {
            "fused": lambda: xtr_loss(h, w, t),
            "fused, 64 MiB kept": lambda: xtr_loss(h, w, t, workspace_mb=64),
            "fused, nothing kept": lambda: xtr_loss(h, w, t, workspace_mb=0),
            "dense label + kl_div": lambda: baselines.dense_label_kl_div(h, w, ids),
            "logits + logsumexp + gather": lambda: baselines.logits_logsumexp_gather(h, w, t),
            "linear_cross_entropy, hard labels": lambda: baselines.linear_cross_entropy_hard_labels(
                h, w, ids[:, 0], 256
            ),
            "compiled reference": lambda: xtr_loss(h, w, t, impl="compiled"),
        }
        bfloat16 = {
            "fused": losses["fused"],
            "dense label + kl_div": losses["dense label + kl_div"],
            "logits + logsumexp + gather": losses["logits + logsumexp + gather"],
        }
        steps = {"floor": self._floor(torch.float32)}
        steps |= {name: self._step(loss, autocast=False) for name, loss in losses.items()}
        steps["bf16 floor"] = self._floor(torch.bfloat16)
        steps |= {f"bf16 {n}": self._step(loss, autocast=True) for n, loss in bfloat16.items()}
        return steps

    def _floor(self, dtype: torch.dtype) -> Step:
        hidden, weight = self.hidden.detach().to(dtype), self.weight.detach().to(dtype)
        made: list[tuple[Tensor, Tensor, Tensor]] = []

        def step() -> None:
            if not made:
                logits = hidden.new_empty(len(hidden), len(weight))
                made.append((logits, torch.empty_like(hidden), torch.empty_like(weight)))
            baselines.three_products(hidden, weight, made[0])

        return step

    def _step(self, loss: Callable[[], Tensor], *, autocast: bool) -> Step:
        def step() -> None:
            self.hidden.grad = self.weight.grad = None
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                value = loss()
            value.backward()

        return step

    def gradients(self, step: Step) -> list[Tensor]:
        step()
        assert self.hidden.grad is not None
        assert self.weight.grad is not None
        return [self.hidden.grad.clone(), self.weight.grad.clone()]

    def true_gradients(self) -> list[Tensor]:
        h, w = (x.detach().double().requires_grad_() for x in (self.hidden, self.weight))
        return list(torch.autograd.grad(xtr_loss(h, w, self.targets), [h, w]))


def interleaved(steps: dict[str, Step], rounds: int) -> dict[str, float]:
    """Median seconds per step; a round runs every step once, so that all meet the same noise."""
    for step in steps.values():
        step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, step in steps.items():
            begin = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(s) for name, s in seconds.items()}


def _resident(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise LookupError(field)


def _measure_memory(shape: tuple[int, int, int], name: str, connection: Any) -> None:
    warnings.simplefilter("ignore")
    Case(8, 16, 3000).ways()[name]()
    step = Case(*shape).ways()[name]
    before = _resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    step()
    connection.send(_resident("VmHWM") - before)


def peak_extra_memory(shape: tuple[int, int, int], name: str) -> int:
    """Bytes beyond the inputs and the gradient of weight at the peak of one step."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_measure_memory, args=(shape, name, sender))
    process.start()
    sender.close()
    rise: int = receiver.recv()
    process.join()
    return rise - shape[1] * shape[2] * 4


def relative_error(got: list[Tensor], true: list[Tensor]) -> float:
    pairs = zip(got, true, strict=True)
    return max(float((a.double() - b.double()).norm() / b.double().norm()) for a, b in pairs)


def quiet_torch() -> None:
    """Torch warns about itself while it compiles and about its own chunked op."""
    warnings.simplefilter("ignore")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_xtr(shape: tuple[int, int, int], benchmark: Any, capsys: Any) -> None:
    quiet_torch()
    case = Case(*shape)
    steps = case.ways()
    times = interleaved(steps, ROUNDS)
    true = case.true_gradients()
    lines = []
    for name, seconds in times.items():
        half = "bf16 " if name.startswith("bf16") else ""
        error = (
            "" if "floor" in name else f"{relative_error(case.gradients(steps[name]), true):.1e}"
        )
        memory = peak_extra_memory(shape, name) / 1e6
        lines.append(
            f"{name:36s}{seconds * 1e3:9.0f}{seconds / times[half + 'fused']:10.2f}"
            f"{seconds / times[half + 'floor']:10.2f}{memory:10.0f}{error:>10s}"
        )
    benchmark.extra_info.update(times)
    benchmark.pedantic(steps["fused"], rounds=3)
    with capsys.disabled():
        print(f"\nB, D, V = {shape}, K {K}, {torch.get_num_threads()} threads, {ROUNDS} rounds")
        print(f"{'':36s}{'ms':>9s}{'/ fused':>10s}{'/ floor':>10s}{'extra MB':>10s}{'error':>10s}")
        print("\n".join(lines))


def test_large_vocabulary_fits_the_workspace(benchmark: Any, capsys: Any) -> None:
    """2048 rows of 250,000 logits: 2 GB of logits, of which a 512 MiB budget keeps a quarter."""
    shape = (2048, 1152, 250_000)
    case = Case(*shape)

    def step() -> None:
        case.hidden.grad = case.weight.grad = None
        xtr_loss(case.hidden, case.weight, case.targets, workspace_mb=512).backward()

    benchmark.pedantic(step, rounds=1)
    memory = peak_extra_memory(shape, "fused") / 1e6
    with capsys.disabled():
        print(f"\nB, D, V = {shape}: {benchmark.stats.stats.median:.1f} s, {memory:.0f} MB extra")
