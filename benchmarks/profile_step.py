"""Where the time of a training step goes: a table of kinds of work, from torch's profiler.

    python benchmarks/profile_step.py CORPUS [--model phrases] [--precision bf16] [--impl fused]

CORPUS is a folder made by ``ems-fast prepare``.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections import defaultdict
from itertools import islice
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from ems_fast.corpus import BinaryCorpus
from ems_fast.corpus.phrases import frequent_phrases
from ems_fast.distributed.ranks import Ranks
from ems_fast.model.config import PRESETS, preset
from ems_fast.model.ems import EMSModel
from ems_fast.training import split_options
from ems_fast.training.batches import batch_stream
from ems_fast.training.objective import Objective
from ems_fast.training.recommended import recommended_options

# The first of these prefixes that a profiled operation's name has tells its kind.
KINDS = {
    "aten::mm": "matrix products", "aten::addmm": "matrix products",
    "aten::bmm": "attention products", "aten::_scaled_dot_product": "attention products",
    "aten::_softmax": "attention softmax",
    "ems_fast::xtr": "XTR kernels", "GeneratedBackwardFor_ems_fast_xtr": "XTR kernels",
    "ems_fast::contrastive": "contrastive kernels",
    "GeneratedBackwardFor_ems_fast_contrastive": "contrastive kernels",
    "aten::native_layer_norm": "LayerNorm", "aten::silu": "swish",
    "aten::copy_": "copies and casts", "aten::cat": "copies and casts",
    "aten::clone": "copies and casts",
    "aten::embedding": "embeddings", "aten::index": "embeddings",
    "aten::_fused_adam": "optimiser", "aten::linalg_vector_norm": "gradient norm",
    "aten::_foreach": "gradient norm",
    "ems_fast::embedding": "means of the table",
}  # fmt: skip


def kind_of(name: str) -> str:
    return next((kind for prefix, kind in KINDS.items() if name.startswith(prefix)), "other")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--model", choices=sorted(PRESETS), default="phrases")
    parser.add_argument("--batch-pairs", type=int, help="by default as in training")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--impl", default="fused")
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()

    corpus = BinaryCorpus.open(arguments.corpus)
    config = preset(
        arguments.model, vocab_size=corpus.vocab_size, languages=tuple(corpus.languages)
    )
    own = {name: getattr(arguments, name) for name in ("precision", "impl")}
    if arguments.batch_pairs:
        own["batch_pairs"] = arguments.batch_pairs
    options = split_options(own, split_options(recommended_options(config)))
    ranks = Ranks(0, 1, torch.device("cpu"))
    keys = torch.from_numpy(frequent_phrases(corpus, config.phrases))
    model = EMSModel(dataclasses.replace(config, phrases=len(keys)))
    if len(keys):
        model.encoder.phrases.copy_(keys)
    objective = Objective(model, options.objective)
    optimizer = options.optimizer.build(model)
    dtype = options.optimizer.autocast_dtype(ranks.device)
    stream = batch_stream(corpus, options.batches, ranks)
    batches = [batch for batch, _ in islice(stream, arguments.steps + 3)]
    stream.close()

    def step(batch) -> None:
        with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
            losses = objective(batch)
        losses.total.backward()
        if options.optimizer.max_gradient_norm:
            torch.nn.utils.clip_grad_norm_(model.parameters(), options.optimizer.max_gradient_norm)
        optimizer.step()
        optimizer.zero_grad()

    for batch in batches[:3]:
        step(batch)
    begun = time.perf_counter()
    for batch in batches[3:]:
        step(batch)
    seconds = time.perf_counter() - begun

    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        for batch in batches[3:]:
            step(batch)
    times: dict[str, float] = defaultdict(float)
    for event in profiled.key_averages():
        times[kind_of(event.key)] += event.self_cpu_time_total
    total = sum(times.values())
    pairs = sum(batch.num_pairs for batch in batches[3:])
    tokens = sum(batch.num_tokens for batch in batches[3:])
    print(
        f"{arguments.model}, {arguments.impl}, {'bf16' if dtype else 'fp32'}, "
        f"{torch.get_num_threads()} threads: {1e3 * seconds / arguments.steps:.0f} ms a step of "
        f"{options.batches.batch_pairs} pairs ({tokens / pairs:.1f} tokens each), "
        f"{pairs / seconds:.0f} pairs/s"
    )
    for kind, value in sorted(times.items(), key=lambda item: -item[1]):
        print(f"  {kind:<22}{100 * value / total:>6.1f} %")


if __name__ == "__main__":
    main()
