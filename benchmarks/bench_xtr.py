"""XTR's loss, forward + backward, beside what it replaces.

    pytest benchmarks/bench_xtr.py --benchmark-enable -s [-k "512 or filter or large"]

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


class TopicText:
    """Artificial parallel text: a word translates to one word; a sentence has a topic.

    Every topic has its own 300 words, Zipf-distributed, so a model that has learned the topics
    spreads a row over some hundred words of the vocabulary.
    """

    words_of_topic = 300

    def __init__(self, V: int) -> None:
        self.V = V
        self.generator = torch.Generator().manual_seed(0)
        self.translation = torch.randperm(V, generator=self.generator)
        self.frequency = 1.0 / torch.arange(1, self.words_of_topic + 1).double()

    def batch(self, B: int) -> tuple[Tensor, BagOfWords]:
        rank = torch.multinomial(
            self.frequency, 2 * B * K, replacement=True, generator=self.generator
        ).view(2, B, K)
        topics = self.V // self.words_of_topic
        topic = torch.randint(0, topics, (B, 1), generator=self.generator)
        source, other = topic * self.words_of_topic + rank
        # Half of the target translates the source, the rest is free, as in real translations.
        other[:, : K // 2] = source[:, : K // 2]
        return source, BagOfWords.from_padded(self.translation[other], torch.full((B,), K))


def trained(
    text: TopicText, B: int, D: int, steps: int, gradient_filter: float
) -> tuple[torch.nn.Module, Tensor, float]:
    """A mean-of-embeddings encoder trained with XTR; returns it, W and the last losses' mean."""
    torch.manual_seed(0)
    text.generator.manual_seed(1)
    encoder = torch.nn.Sequential(
        torch.nn.EmbeddingBag(text.V, D), torch.nn.Linear(D, D), torch.nn.LayerNorm(D)
    )
    weight = torch.nn.Parameter(torch.randn(text.V, D) / D**0.5)
    optimizer = torch.optim.Adam([*encoder.parameters(), weight], lr=5e-3, fused=True)
    losses = []
    for _ in range(steps):
        source, targets = text.batch(B)
        with torch.autocast("cpu", torch.bfloat16):
            loss = xtr_loss(encoder(source), weight, targets, gradient_filter=gradient_filter)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return encoder, weight.detach(), float(torch.stack(losses[-20:]).mean())


def test_gradient_filter(benchmark: Any, capsys: Any) -> None:
    """Time and error of the filter on new sentences of a trained model, and on random rows."""
    B, D, V = 512, 256, 60_000
    text = TopicText(V)
    steps = int(os.environ.get("XTR_STEPS", "300"))
    reached = {eps: trained(text, B, D, steps, eps)[2] for eps in (1e-4, 1e-5)}
    encoder, weight, reached[0.0] = trained(text, B, D, steps, 0.0)
    source, targets = text.batch(B)
    case = Case(B, D, V)
    models = {
        "trained": (encoder(source).detach(), weight, targets),
        "random": (case.hidden.detach(), case.weight.detach(), case.targets),
    }
    lines = []
    for rows, (hidden, w, t) in models.items():
        h, w = hidden.requires_grad_(), w.requires_grad_()
        wide = [x.detach().double().requires_grad_() for x in (h, w)]
        true = list(torch.autograd.grad(xtr_loss(*wide, t), wide))

        def gradients(
            eps: float, autocast: bool, h: Tensor = h, w: Tensor = w, t: BagOfWords = t
        ) -> list[Tensor]:
            with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
                loss = xtr_loss(h, w, t, gradient_filter=eps)
            return list(torch.autograd.grad(loss, [h, w]))

        def step(eps: float, autocast: bool, run: Any = gradients) -> Step:
            return lambda: run(eps, autocast) and None

        for autocast in (False, True):
            filters = (0.0, 1e-3, 1e-4, 1e-5, 1e-6)
            times = interleaved({str(eps): step(eps, autocast) for eps in filters}, ROUNDS)
            for eps in filters:
                seconds, error = times[str(eps)], relative_error(gradients(eps, autocast), true)
                lines.append(
                    f"{rows:9s}{'bfloat16' if autocast else 'float32':9s}{eps:8.0e}"
                    f"{seconds * 1e3:8.0f}{times['0.0'] / seconds:10.2f}{error:10.1e}"
                )
        if rows == "trained":
            benchmark.pedantic(step(1e-5, autocast=False), rounds=3)
    with capsys.disabled():
        print(f"\nB, D, V = {(B, D, V)}, trained for {steps} steps")
        print(f"{'rows':9s}{'products':9s}{'filter':>8s}{'ms':>8s}{'speed-up':>10s}{'error':>10s}")
        print("\n".join(lines))
        print("loss reached:", ", ".join(f"filter {e:.0e}: {x:.4f}" for e, x in reached.items()))
    assert reached[1e-5] == pytest.approx(reached[0.0], rel=1e-2)
