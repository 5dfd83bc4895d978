"""The contrastive loss against its baselines: forward + backward, float32.

    python benchmarks/bench_contrastive.py [--batch 152 512 1024 4096] [--width 128] [--rounds 9]
        [--large]
    pytest benchmarks/bench_contrastive.py --benchmark-enable

Run as a script it prints one table per batch size. All candidates take turns within a round, so
that noise on the machine meets them alike; times and ratios are medians over the rounds. Extra
memory is the growth of the process's peak resident size (VmHWM of /proc/self/status, reset through
/proc/self/clear_refs) over one forward and backward pass in a process of its own, after a tiny
warm-up; gradients are part of it, inputs are not. The error is the largest deviation of a gradient
from the float64 reference, relative to the largest entry of that gradient. `--large` adds
B = 16,384, where plain PyTorch needs gigabytes.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
from baselines.contrastive import STEPS, TEMPERATURE, fused, make_floor, make_inputs, run

from ems_fast import contrastive_loss
from ems_fast.ops.gemm import can_round

E = 128
THREADS = 2
# The expanded formulation takes seconds and gigabytes: once, and only up to this batch.
RELEASED_UP_TO = 1024
# Beyond it the float64 truth comes from the fused float64 kernels, themselves tested against the
# reference: the reference would need ten gigabytes.
REFERENCE_UP_TO = 4096


def extra_megabytes(name: str, B: int, E: int = E) -> float:
    """Peak resident size that one pass of step `name` adds, measured in a process of its own."""
    output = subprocess.run(
        [sys.executable, __file__, "--measure", name, "--batch", str(B), "--width", str(E)],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return float(output)


def _measure(name: str, B: int, E: int) -> float:
    torch.set_num_threads(THREADS)
    run(STEPS[name], *make_inputs(64, E))
    a, b = make_inputs(B, E)
    if name == "compiled":  # compiling is not what is measured
        run(STEPS[name], a, b)
        a.grad = b.grad = None
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    run(STEPS[name], a, b)
    return (_status("VmHWM") - before) / 1024


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])  # kilobytes
    raise RuntimeError(f"/proc/self/status has no {field}")


@functools.cache
def truth(B: int, E: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients in float64."""
    a, b = make_inputs(B, E, torch.float64)
    impl = "reference" if B <= REFERENCE_UP_TO else "fused"
    run(lambda a, b: contrastive_loss(a, b, temperature=TEMPERATURE, impl=impl), a, b)
    assert a.grad is not None
    assert b.grad is not None
    return a.grad, b.grad


def relative_error(name: str, B: int, E: int = E) -> float | None:
    """Largest error of a gradient; None where the step computes another loss."""
    if name in ("fused, masks", "fused, temperature 0.01"):
        return None
    a, b = make_inputs(B, E)
    run(STEPS[name], a, b)
    pairs = zip((a.grad, b.grad), truth(B, E), strict=True)
    return max(float((x.double() - y).abs().max() / y.abs().max()) for x, y in pairs)


def measure_rounds(
    candidates: dict[str, Callable[[], None]], rounds: int
) -> dict[str, list[float]]:
    """Milliseconds of every candidate in every round; within a round they take turns."""
    repeats = {}
    for name, function in candidates.items():  # warm up, and repeat what is short
        function()
        start = time.perf_counter()
        function()
        repeats[name] = max(1, int(0.01 / (time.perf_counter() - start)))
    times: dict[str, list[float]] = {name: [] for name in candidates}
    for _ in range(rounds):
        for name, function in candidates.items():
            start = time.perf_counter()
            for _ in range(repeats[name]):
                function()
            times[name].append((time.perf_counter() - start) * 1e3 / repeats[name])
    return times


def print_table(B: int, E: int, rounds: int) -> None:
    """Time, ratio to the fused loss, extra memory and error of every step at batch size B."""
    a, b = make_inputs(B, E)
    rounds_operands = can_round(torch.float32, a.device)
    names = [
        name for name in STEPS
        if name != "released" and (rounds_operands or name != "fused, bfloat16")
    ]  # fmt: skip
    candidates = {name: functools.partial(run, STEPS[name], a, b) for name in names}
    if B <= REFERENCE_UP_TO:
        candidates["floor"] = make_floor(B, E)
        if rounds_operands:
            candidates["floor, bfloat16"] = make_floor(B, E, rounded=True)
    times = measure_rounds(candidates, rounds)
    if B <= RELEASED_UP_TO:
        names.insert(0, "released")
        start = time.perf_counter()
        run(STEPS["released"], a, b)
        times["released"] = [(time.perf_counter() - start) * 1e3]
    names += [name for name in times if name.startswith("floor")]
    print(f"\nB = {B}, E = {E}, float32, {torch.get_num_threads()} threads, {rounds} rounds")
    print(f"{'step':26}{'median ms':>11}{'min ms':>10}{'x fused':>9}{'extra MB':>10}{'error':>10}")
    for name in names:
        own, of_fused = times[name], times["fused"]
        pairs = zip(own, of_fused, strict=False)  # the released formulation runs once
        ratio = statistics.median(x / y for x, y in pairs)
        floor = name.startswith("floor")
        memory = "" if floor else f"{extra_megabytes(name, B, E):.1f}"
        error = None if floor else relative_error(name, B, E)
        print(
            f"{name:26}{statistics.median(own):11.3f}{min(own):10.3f}{ratio:9.2f}{memory:>10}"
            f"{'' if error is None else format(error, '.1e'):>10}",
            flush=True,
        )


@pytest.mark.parametrize("B", [152, 512, 1024, 4096])
@pytest.mark.parametrize("name", ["plain", "fused", "fused, masks", "fused, temperature 0.01"])
def test_step(benchmark, name: str, B: int) -> None:
    torch.set_num_threads(THREADS)
    a, b = make_inputs(B, E)
    benchmark.group = f"contrastive B={B}"
    benchmark.extra_info["extra_megabytes"] = extra_megabytes(name, B)
    benchmark.extra_info["relative_error"] = relative_error(name, B)
    benchmark(run, STEPS[name], a, b)


@pytest.mark.parametrize("B", [152, 512, 1024, 4096])
def test_floor(benchmark, B: int) -> None:
    torch.set_num_threads(THREADS)
    benchmark.group = f"contrastive B={B}"
    benchmark(make_floor(B, E))


def test_memory_of_a_huge_batch(benchmark) -> None:
    torch.set_num_threads(THREADS)
    B = 16384
    benchmark.extra_info["extra_megabytes"] = extra_megabytes("fused", B)
    assert benchmark.extra_info["extra_megabytes"] <= 64
    a, b = make_inputs(B, E)
    benchmark.pedantic(run, (fused, a, b), rounds=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[152, 512, 1024, 4096])
    parser.add_argument("--width", type=int, default=E)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--large", action="store_true", help="add B = 16384, one round")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        print(_measure(options.measure, options.batch[0], options.width))
        return
    torch.set_num_threads(THREADS)
    for B in options.batch:
        print_table(B, options.width, options.rounds)
    if options.large:
        print_table(16384, options.width, 1)


if __name__ == "__main__":
    main()
