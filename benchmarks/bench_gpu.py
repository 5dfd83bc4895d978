"""Both objectives on a GPU, forward + backward, beside what they replace.

    python benchmarks/bench_gpu.py [--rounds 20] [--output benchmarks/results/gpu.json]

All candidates take turns within a round; times are medians of CUDA events. Memory is the peak that
torch's allocator reports over one step, less what was allocated before. The error is the larger
relative error (2-norm) of the two gradients against float64. Liger-Kernel's and Cut Cross-Entropy's
nearest functions take one class per row instead of a bag of words; they take part where installed.
`--device cpu --tiny` only shows that the script runs.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from baselines import contrastive as contrastive_baselines
from baselines import losses as baselines
from results import write_results
from torch import Tensor

from ems_fast import BackendError, BagOfWords, contrastive_loss, xtr_loss

K = 30
XTR_SHAPES = [(304, 1152, 60_000), (512, 256, 60_000), (2048, 1024, 60_000)]
CONTRASTIVE_SHAPES = [(152, 128), (1216, 128), (4096, 128), (16_384, 128)]
TINY_XTR, TINY_CONTRASTIVE = [(8, 16, 300)], [(16, 8)]
Loss = Callable[[], Tensor]


def xtr_ways(hidden: Tensor, weight: Tensor, ids: Tensor, targets: BagOfWords) -> dict[str, Loss]:
    """The ways to XTR's loss, or to the nearest thing that another library offers."""
    ways: dict[str, Loss] = {
        "fused": lambda: xtr_loss(hidden, weight, targets),
        "fused, nothing kept": lambda: xtr_loss(hidden, weight, targets, workspace_mb=0),
        "compiled": lambda: xtr_loss(hidden, weight, targets, impl="compiled"),
        "reference": lambda: xtr_loss(hidden, weight, targets, impl="reference"),
        "dense label + kl_div": lambda: baselines.dense_label_kl_div(hidden, weight, ids),
    }
    labels = ids[:, 0].contiguous()
    try:
        from liger_kernel.transformers import LigerFusedLinearCrossEntropyLoss

        liger = LigerFusedLinearCrossEntropyLoss()
        ways["Liger-Kernel, hard labels"] = lambda: liger(weight, hidden, labels)
    except ImportError:
        pass
    try:
        from cut_cross_entropy import linear_cross_entropy

        ways["Cut Cross-Entropy, hard labels"] = lambda: linear_cross_entropy(
            hidden, weight, labels
        )
    except ImportError:
        pass
    return ways


def contrastive_ways(a: Tensor, b: Tensor) -> dict[str, Loss]:
    """The ways to the contrastive loss."""
    names = ["fused", "fused, masks", "fused, temperature 0.01", "plain", "compiled"]
    return {name: (lambda step=contrastive_baselines.STEPS[name]: step(a, b)) for name in names}


class Bench:
    """Measures ways to one loss of two leaves on one device."""

    def __init__(self, device: torch.device, rounds: int, dtype: torch.dtype) -> None:
        self.device, self.rounds, self.dtype = device, rounds, dtype
        self.on_gpu = device.type == "cuda"

    def step(self, loss: Loss, leaves: tuple[Tensor, Tensor]) -> None:
        """Forward and backward; the gradients end up in `.grad`."""
        for leaf in leaves:
            leaf.grad = None
        enabled = self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype, enabled=enabled):
            value = loss()
        value.backward()

    def milliseconds(self, loss: Loss, leaves: tuple[Tensor, Tensor]) -> float:
        """One step, from an idle device to an idle device."""
        if not self.on_gpu:
            start = time.perf_counter()
            self.step(loss, leaves)
            return (time.perf_counter() - start) * 1e3
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        self.step(loss, leaves)
        end.record()
        end.synchronize()
        return begin.elapsed_time(end)

    def peak_megabytes(self, loss: Loss, leaves: tuple[Tensor, Tensor]) -> float | None:
        """What a step allocates beyond what exists, gradients included."""
        if not self.on_gpu:
            return None
        for leaf in leaves:
            leaf.grad = None
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        self.step(loss, leaves)
        return (torch.cuda.max_memory_allocated() - before) / 1e6

    def rows(
        self, ways: dict[str, Loss], leaves: tuple[Tensor, Tensor], true: list[Tensor]
    ) -> list[dict[str, object]]:
        """A row per way: what it is, its median time, memory and error, or why it failed."""
        rows, works = [], {}
        for name, loss in ways.items():
            try:
                for _ in range(3):
                    self.step(loss, leaves)
                works[name] = loss
            except (BackendError, RuntimeError) as failure:
                rows.append({"way": name, "failed": str(failure).splitlines()[0]})
        times: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(self.rounds):
            for name, loss in works.items():
                times[name].append(self.milliseconds(loss, leaves))
        for name, loss in works.items():
            megabytes = self.peak_megabytes(loss, leaves)
            self.step(loss, leaves)
            # Another loss has other gradients, and no error.
            same = not any(word in name for word in ("hard labels", "masks", "temperature"))
            rows.append(
                {
                    "way": name,
                    "median_ms": statistics.median(times[name]),
                    "min_ms": min(times[name]),
                    "megabytes": megabytes,
                    "error": relative_error(leaves, true) if same else None,
                }
            )
        return rows


def relative_error(leaves: tuple[Tensor, Tensor], true: list[Tensor]) -> float:
    """The larger of the two gradients' relative errors."""
    grads = [leaf.grad.double() for leaf in leaves if leaf.grad is not None]
    return max(float((x - y).norm() / y.norm()) for x, y in zip(grads, true, strict=True))


def measure_xtr(bench: Bench, shape: tuple[int, int, int]) -> list[dict[str, object]]:
    """XTR at B, D, V."""
    B, D, V = shape
    torch.manual_seed(0)
    hidden = torch.randn(B, D).to(bench.device).requires_grad_()
    weight = (torch.randn(V, D) / D**0.5).to(bench.device).requires_grad_()
    ids = torch.stack([torch.randperm(V)[:K] for _ in range(B)])
    targets = BagOfWords.from_padded(ids, torch.full((B,), K), vocab_size=V).to(bench.device)
    wide = [x.detach().double().requires_grad_() for x in (hidden, weight)]
    loss = xtr_loss(wide[0], wide[1], targets, impl="reference")
    true = list(torch.autograd.grad(loss, wide))
    ways = xtr_ways(hidden, weight, ids.to(bench.device), targets)
    return bench.rows(ways, (hidden, weight), true)


def measure_contrastive(bench: Bench, shape: tuple[int, int]) -> list[dict[str, object]]:
    """The contrastive loss at B, E."""
    a, b = (x.detach().to(bench.device) for x in contrastive_baselines.make_inputs(*shape))
    wide = [x.double().requires_grad_() for x in (a, b)]
    temperature = contrastive_baselines.TEMPERATURE
    loss = contrastive_loss(*wide, temperature=temperature, impl="reference")
    true = list(torch.autograd.grad(loss, wide))
    leaves = (a.requires_grad_(), b.requires_grad_())
    return bench.rows(contrastive_ways(*leaves), leaves, true)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tiny", action="store_true", help="one small shape of each")
    parser.add_argument("--output", type=Path, help="write the results as JSON")
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.error(f"--device: got {options.device}, but torch sees no CUDA device here")
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    results = []
    for dtype in (torch.bfloat16, torch.float32):
        bench = Bench(device, options.rounds, dtype)
        cases = [
            ("xtr", shape, measure_xtr(bench, shape))
            for shape in (TINY_XTR if options.tiny else XTR_SHAPES)
        ]
        if dtype == torch.float32:  # under autocast too it is computed in float32
            cases += [
                ("contrastive", shape, measure_contrastive(bench, shape))
                for shape in (TINY_CONTRASTIVE if options.tiny else CONTRASTIVE_SHAPES)
            ]
        for subject, shape, rows in cases:
            print(f"\n{subject} {shape}, {str(dtype)[6:]} products, {name}")
            print(f"{'':34}{'ms':>10}{'MB':>10}{'error':>10}")
            for row in rows:
                if "failed" in row:
                    print(f"{row['way']:34} failed: {row['failed']}")
                    continue
                megabytes, error = row["megabytes"], row["error"]
                print(
                    f"{row['way']:34}{row['median_ms']:10.3f}"
                    f"{'' if megabytes is None else format(megabytes, '.0f'):>10}"
                    f"{'' if error is None else format(error, '.1e'):>10}"
                )
            results.append(
                {"subject": subject, "shape": shape, "products": str(dtype)[6:], "rows": rows}
            )
    if options.output:
        write_results(options.output, results, device)


if __name__ == "__main__":
    main()
