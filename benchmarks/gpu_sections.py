"""What gpu_check.py measures: every section yields rows, which are written as they come."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import bench_gpu
import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

import ems_fast
from ems_fast.encoding.encoder import default_batch_tokens
from ems_fast.model.config import PRESETS, ModelConfig
from ems_fast.model.ems import EMSModel
from ems_fast.model.packing import pack
from ems_fast.ops.bag_of_words import BagOfWords
from ems_fast.training import TrainOptions, split_options
from ems_fast.training.batches.batch import Batch
from ems_fast.training.clipping import clip_gradients
from ems_fast.training.objective import Objective
from ems_fast.training.recommended import recommended_options

Row = dict[str, Any]
# Pairs of a step, as a user would train on one GPU; a pair has 50 tokens on average.
PAIRS = {"static": 4096, "mini": 1024, "small": 512, "ems": 152}
LONGEST_KERNELS = 20
# How far one step's gradient may be from float64 on the CPU, relative, in the 2-norm.
TOLERANCE = {"fp32": 1e-4, "bf16": 5e-2}


class CheckError(Exception):
    """Something that has to hold on this machine does not."""


@dataclass(frozen=True)
class Setting:
    """Where and how much: `tiny` shows that all of it runs, in seconds and on a CPU too."""

    device: torch.device
    tiny: bool
    rounds: int

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def models(self) -> dict[str, ModelConfig]:
        if not self.tiny:
            return {name: replace(config, languages=LANGUAGES) for name, config in PRESETS.items()}
        sizes = {
            "vocab_size": 300, "width": 32, "ffn_width": 64, "heads": 2, "languages": LANGUAGES
        }  # fmt: skip
        return {name: replace(PRESETS[name], **sizes) for name in ("static", "mini")}

    def milliseconds(self, work: Callable[[], object]) -> tuple[float, float]:
        """Medians of what `work` takes on the device, and of what the host takes to queue it."""
        device, host = [], []
        for _ in range(self.rounds):
            self.wait()
            begun = time.perf_counter()
            if self.on_gpu:
                start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record()
            work()
            if self.on_gpu:
                end.record()
            host.append(1e3 * (time.perf_counter() - begun))
            self.wait()
            device.append(start.elapsed_time(end) if self.on_gpu else host[-1])
        return statistics.median(device), statistics.median(host)


LANGUAGES = ("de", "en", "fr")


# -- what the machine is and can do ------------------------------------------------------------


def backend(setting: Setting) -> Iterator[Row]:
    """Fails unless impl="fused" runs kernels on the device."""
    kind = setting.device.type
    found = [b for b in ems_fast.backends() if b.name.startswith(kind)]
    active = [b for b in found if b.active]
    if not active:
        raise CheckError(f"impl='fused' has no active backend: {[b.detail for b in found]}")
    row: Row = {"name": active[0].name, "detail": active[0].detail}
    if setting.on_gpu:
        properties = torch.cuda.get_device_properties(setting.device)
        row["compute_capability"] = f"{properties.major}.{properties.minor}"
        row["memory_gb"] = properties.total_memory / 1e9
        row["multiprocessors"] = properties.multi_processor_count
    yield row


def ceilings(setting: Setting) -> Iterator[Row]:
    """What copies and matrix products reach here: the measure of all that follows."""
    size, side = (1 << 20, 128) if setting.tiny else (1 << 30, 8192)
    source = torch.ones(size // 4, device=setting.device)
    target = torch.empty_like(source)
    copied = partial(target.copy_, source)
    ms, _ = setting.milliseconds(copied)
    yield {"of": "copy", "ms": ms, "gigabytes_per_second": 2 * size / ms / 1e6}
    del source, target, copied
    for dtype in (torch.bfloat16, torch.float32):
        a = torch.randn(side, side, device=setting.device).to(dtype)
        out = torch.empty_like(a)
        ms, _ = setting.milliseconds(partial(torch.mm, a, a, out=out))
        yield {"of": f"product, {str(dtype)[6:]}", "ms": ms, "teraflops": 2e-9 * side**3 / ms}


# -- right? ------------------------------------------------------------------------------------


def gradients(setting: Setting) -> Iterator[Row]:
    """One step's loss and gradient against float64 on the CPU by the reference."""
    for name, config in setting.models().items():
        if name == "ems":  # float64 of this size takes the CPU minutes; small has all its parts
            continue
        torch.manual_seed(0)
        config = replace(config, dropout=0.0, vocab_size=min(config.vocab_size, 8000))
        model = EMSModel(config)
        batch = make_batch(config, 8 if setting.tiny else 32)
        options = options_of(config)
        exact = copy.deepcopy(model).double()
        true = Objective(exact, replace(options.objective, impl="reference"))(batch).total
        true.backward()
        want = _gradient(exact)
        model.to(setting.device)
        for precision, tolerance in TOLERANCE.items():
            objective = Objective(model, replace(options.objective, impl="fused"))
            model.zero_grad()
            with torch.autocast(setting.device.type, torch.bfloat16, enabled=precision == "bf16"):
                total = objective(batch.to(setting.device)).total
            total.backward()
            error = float((_gradient(model) - want).norm() / want.norm())
            of_loss = abs(total.item() - true.item()) / abs(true.item())
            yield {
                "model": name, "precision": precision, "error": error, "error_of_loss": of_loss,
                "tolerance": tolerance,
            }  # fmt: skip
            if not max(error, of_loss) <= tolerance:
                raise CheckError(f"{name}, {precision}: gradient off by {error:.1e}")


def _gradient(model: torch.nn.Module) -> torch.Tensor:
    found = []
    for parameter in model.parameters():
        if parameter.grad is not None:
            found.append(parameter.grad.to_dense().double().cpu().flatten())
    return torch.cat(found)


# -- fast? -------------------------------------------------------------------------------------


def steps(setting: Setting, teraflops: float | None) -> Iterator[Row]:
    """Whole training steps of every preset; `teraflops` is the ceiling of bfloat16 products."""
    for name, config in setting.models().items():
        torch.manual_seed(0)
        model = EMSModel(config).to(setting.device).train()
        options = options_of(config)
        model.encoder.sparse_gradient = options.optimizer.optimizer == "rowwise-adagrad"
        objective = Objective(model, replace(options.objective, impl="fused"))
        optimizer = options.optimizer.build(model)
        dtype = options.optimizer.autocast_dtype(setting.device)
        batch = make_batch(config, 8 if setting.tiny else PAIRS[name]).to(setting.device)

        def step(
            objective=objective, optimizer=optimizer, dtype=dtype, batch=batch, options=options
        ) -> None:
            with torch.autocast(
                setting.device.type, dtype=dtype or torch.bfloat16, enabled=dtype is not None
            ):
                total = objective(batch).total
            total.backward()
            limit = options.optimizer.max_gradient_norm or float("inf")
            clip_gradients(objective.parameters(), limit)
            optimizer.step()
            optimizer.zero_grad()

        for _ in range(3):
            step()
        setting.wait()
        if setting.on_gpu:
            torch.cuda.reset_peak_memory_stats(setting.device)
        device_ms, host_ms = setting.milliseconds(step)
        peak = torch.cuda.max_memory_allocated(setting.device) / 1e6 if setting.on_gpu else None
        flops = flops_of(model, batch, xtr=options.objective.xtr_weight > 0)
        launches, longest = kernels_of(setting, step)
        yield {
            "model": name, "precision": "bf16" if dtype else "fp32", "pairs": batch.num_pairs,
            "tokens": batch.num_tokens, "device_ms": device_ms, "host_ms": host_ms,
            "pairs_per_second": 1e3 * batch.num_pairs / max(device_ms, host_ms),
            "launches": launches, "gigaflops": flops / 1e9,
            "share_of_peak": flops / device_ms / 1e9 / teraflops if teraflops else None,
            "peak_megabytes": peak, "longest_kernels": longest,
        }  # fmt: skip


def losses(setting: Setting) -> Iterator[Row]:
    """Both losses beside what they replace, as bench_gpu.py measures them; then replayed."""
    xtr = bench_gpu.TINY_XTR if setting.tiny else bench_gpu.XTR_SHAPES
    contrastive = bench_gpu.TINY_CONTRASTIVE if setting.tiny else bench_gpu.CONTRASTIVE_SHAPES
    for dtype in (torch.bfloat16, torch.float32):
        bench = bench_gpu.Bench(setting.device, setting.rounds, dtype)
        for shape in xtr:
            for row in bench_gpu.measure_xtr(bench, shape):
                yield {"loss": "xtr", "shape": shape, "products": str(dtype)[6:], **row}
    bench = bench_gpu.Bench(setting.device, setting.rounds, torch.float32)
    for shape in contrastive:
        for row in bench_gpu.measure_contrastive(bench, shape):
            yield {"loss": "contrastive", "shape": shape, "products": "float32", **row}


def replayed(setting: Setting) -> Iterator[Row]:
    """Both losses, forward and backward, as one CUDA graph against eager calls."""
    B, D, V, E = (8, 16, 300, 8) if setting.tiny else (304, 1152, 60_000, 128)
    torch.manual_seed(0)
    hidden, weight, a, b = (
        torch.randn(*size, device=setting.device, requires_grad=True)
        for size in ((B, D), (V, D), (B // 2, E), (B // 2, E))
    )
    ids = torch.randint(0, V, (B, bench_gpu.K))
    targets = BagOfWords.from_padded(ids, torch.full((B,), bench_gpu.K)).sorted_by_word()
    targets = targets.to(setting.device)

    def eager() -> None:
        loss = ems_fast.xtr_loss(hidden, weight, targets) + ems_fast.contrastive_loss(a, b)
        torch.autograd.grad(loss, [hidden, weight, a, b])

    for _ in range(3):
        eager()
    device_ms, host_ms = setting.milliseconds(eager)
    launches, _ = kernels_of(setting, eager)
    yield {"way": "eager", "device_ms": device_ms, "host_ms": host_ms, "launches": launches}
    if not setting.on_gpu:
        return
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        eager()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        eager()
    device_ms, host_ms = setting.milliseconds(graph.replay)
    yield {"way": "replayed", "device_ms": device_ms, "host_ms": host_ms, "launches": 1}


def attention(setting: Setting) -> Iterator[Row]:
    """Forward and backward of one layer's attention: padded to the longest, and where it lies."""
    config = setting.models()["mini" if setting.tiny else "ems"]
    layer = EMSModel(config).encoder.layers[0].attention.to(setting.device)
    sentences = make_batch(config, 8 if setting.tiny else PAIRS["ems"]).sentences
    packed = sentences.to(setting.device)
    ways = {"padded": layer._attend_padded, "groups": layer._attend_groups}
    if setting.on_gpu:
        ways["in place"] = layer._attend_in_place
    for dtype in (torch.bfloat16, torch.float32):
        qkv = torch.randn(
            packed.ids.numel(), 3 * config.width, device=setting.device, dtype=dtype,
            requires_grad=True,
        )  # fmt: skip
        for name, way in ways.items():

            def run(way=way, qkv=qkv) -> None:
                torch.autograd.grad(way(qkv, packed).float().square().sum(), qkv)

            for _ in range(3):
                run()
            device_ms, host_ms = setting.milliseconds(run)
            launches, _ = kernels_of(setting, run)
            yield {
                "way": name, "dtype": str(dtype)[6:], "sentences": packed.num_sentences,
                "tokens": packed.ids.numel(), "device_ms": device_ms, "host_ms": host_ms,
                "launches": launches,
            }  # fmt: skip


def encoding(setting: Setting) -> Iterator[Row]:
    """Tokens a second through every preset's encoder, and sentences a second from text."""
    for name, config in setting.models().items():
        lengths = lengths_of(512 if setting.tiny else 32_768)
        starts = np.cumsum(lengths) - lengths
        ids = np.random.default_rng(0).integers(4, config.vocab_size, int(lengths.sum()))
        for dtype in (torch.float32, torch.bfloat16):
            encoder = EMSModel(config).encoder.to(setting.device, dtype).eval()
            for tokens in (4096, default_batch_tokens("cuda")):
                rows = np.array_split(np.argsort(lengths), max(int(lengths.sum()) // tokens, 1))
                packs = [pack(ids, starts[part], lengths[part]) for part in rows]

                def run(encoder=encoder, packs=packs) -> None:
                    with torch.inference_mode():
                        for one in packs:
                            encoder(one.to(setting.device))

                run()
                device_ms, _ = setting.milliseconds(run)
                yield {
                    "model": name, "dtype": str(dtype)[6:], "batch_tokens": tokens,
                    "tokens_per_second": 1e3 * float(lengths.sum()) / device_ms,
                }  # fmt: skip
    words = ["one", "two", "three", "good", "morning", "sentence"]
    sentences = [" ".join(words[: 1 + i % 6]) for i in range(500 if setting.tiny else 200_000)]
    shipped = ems_fast.load(device=setting.device)
    begun = time.perf_counter()
    shipped.encode(sentences, progress=False)
    seconds = time.perf_counter() - begun
    yield {"model": "shipped, from text", "sentences_per_second": len(sentences) / seconds}


# -- what the sections share ---------------------------------------------------------------------


def options_of(config: ModelConfig) -> TrainOptions:
    return split_options(recommended_options(config))


def lengths_of(n: int) -> np.ndarray:
    """Of n sentences: 25 tokens on average, few of them long, as in parallel text."""
    drawn = np.random.default_rng(0).gamma(2.5, 10.0, n)
    return np.clip(drawn, 1, 120).astype(np.int64)


def make_batch(config: ModelConfig, B: int) -> Batch:
    """B pairs of random tokens."""
    rng = np.random.default_rng(0)
    lengths = lengths_of(2 * B)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = rng.integers(4, config.vocab_size, int(offsets[-1]))
    sides = [range(B, 2 * B), range(B)]
    others = np.concatenate([np.arange(offsets[i], offsets[i + 1]) for s in sides for i in s])
    swapped = np.concatenate([[0], np.cumsum(np.roll(lengths, B))])
    return Batch(
        pack(ids, offsets[:-1], lengths),
        BagOfWords.from_packed(
            torch.from_numpy(ids[others]), torch.from_numpy(swapped)
        ).sorted_by_word(),
        torch.from_numpy(rng.integers(0, len(config.languages), 2 * B)),
        torch.arange(B),
        torch.arange(B),
    )


def flops_of(model: EMSModel, batch: Batch, *, xtr: bool) -> int:
    """Of the products with weights, forward and backward; attention and contrastive left out."""
    layers = sum(p.numel() for p in model.encoder.layers.parameters() if p.dim() == 2)
    output = model.output.numel() if xtr else 0
    return 6 * (batch.num_tokens * layers + 2 * batch.num_pairs * output)


def kernels_of(setting: Setting, work: Callable[[], object]) -> tuple[int | None, list[Row]]:
    """Launches of one call, None on a CPU, and what took longest in it."""
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * setting.on_gpu
    with profile(activities=activities) as profiled:
        work()
        setting.wait()
    launched = [e for e in profiled.events() if e.device_type == torch.autograd.DeviceType.CUDA]
    key = "self_device_time_total" if setting.on_gpu else "self_cpu_time_total"
    found = [e for e in profiled.key_averages() if getattr(e, key) > 0]
    if setting.on_gpu:
        found = [e for e in found if e.device_type == torch.autograd.DeviceType.CUDA]
    found.sort(key=lambda event: -getattr(event, key))
    longest = [
        {"name": e.key[:120], "ms": getattr(e, key) / 1e3, "calls": e.count}
        for e in found[:LONGEST_KERNELS]
    ]
    return len(launched) if setting.on_gpu else None, longest
