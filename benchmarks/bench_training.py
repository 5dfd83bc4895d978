"""A whole training step beside the released recipe, and beside its bare matrix products.

    pytest benchmarks/bench_training.py --benchmark-enable -s [-k "speed or floor or curve"]

Real sentences, preset `mini`, two languages' worth of Tatoeba pairs and more; a step is batch +
forward + backward + optimiser. All ways take turns within a round, so that noise meets them alike.
EMS_BENCH_CORPUS names a folder made by ``ems-fast prepare``; without it one is made of
../shared/corpora. TRAINING_ROUNDS (3) sets the rounds, TRAINING_STEPS (4) the steps of a turn.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from baselines.plain_recipe import Pairs, PlainRecipe, all_pairs, padded, random_batches
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ems_fast.corpus import BinaryCorpus, prepare
from ems_fast.distributed.ranks import Ranks
from ems_fast.model.config import preset
from ems_fast.model.ems import EMSModel
from ems_fast.model.packing import pack
from ems_fast.ops.bag_of_words import BagOfWords
from ems_fast.training import split_options
from ems_fast.training.batches import batch_stream
from ems_fast.training.batches.batch import Batch
from ems_fast.training.objective import Objective

ROUNDS = int(os.environ.get("TRAINING_ROUNDS", "3"))
STEPS = int(os.environ.get("TRAINING_STEPS", "4"))
CORPORA = Path(__file__).resolve().parents[2] / "shared" / "corpora"
CPU = Ranks(0, 1, torch.device("cpu"))
Step = Callable[[], object]


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> BinaryCorpus:
    if folder := os.environ.get("EMS_BENCH_CORPUS"):
        return BinaryCorpus.open(folder)
    if not CORPORA.is_dir():
        pytest.skip(f"needs the parallel text in {CORPORA}, or EMS_BENCH_CORPUS")
    files = [CORPORA / "train" / f"{language}.tsv.zst" for language in ("de", "fr", "ja", "ru")]
    return prepare(
        files, tmp_path_factory.mktemp("corpus") / "corpus", languages="en-{stem}",
        tags=["tat", "tatp"], vocab_size=16_000, tokenizer_type="bpe", progress=False,
    )  # fmt: skip


def new_model(corpus: BinaryCorpus) -> EMSModel:
    torch.manual_seed(0)
    return EMSModel(preset("mini", vocab_size=corpus.vocab_size, languages=tuple(corpus.languages)))


class Ours:
    """Steps as the trainer makes them: batches from the prefetch thread, the fused optimiser."""

    def __init__(self, corpus: BinaryCorpus, B: int, **options: object):
        self.options = split_options({"batch_pairs": B, **options})
        self.model = new_model(corpus)
        self.objective = Objective(self.model, self.options.objective)
        self.optimizer = self.options.optimizer.build(self.model)
        self.dtype = self.options.optimizer.autocast_dtype(CPU.device)
        self.batches = batch_stream(corpus, self.options.batches, CPU)
        self.waited = 0.0

    def __call__(self) -> None:
        asked = time.perf_counter()
        batch, _ = next(self.batches)
        self.waited += time.perf_counter() - asked
        self.step(batch)

    def step(self, batch: Batch) -> Tensor:
        loss = self.loss(batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()

    def schedule(self, factor: float) -> None:
        self.optimizer.schedule(factor)

    def loss(self, batch: Batch) -> Tensor:
        enabled = self.dtype is not None
        with torch.autocast("cpu", dtype=self.dtype or torch.bfloat16, enabled=enabled):
            return self.objective(batch).total


class Plain:
    """Steps of the released recipe."""

    def __init__(self, corpus: BinaryCorpus, pairs: Pairs, B: int, *, expanded: bool):
        self.recipe = PlainRecipe(new_model(corpus), expanded=expanded)
        self.optimizer = torch.optim.Adam(
            self.recipe.parameters(), lr=1e-3, amsgrad=True, foreach=False
        )
        self.batches = random_batches(pairs, B)

    def __call__(self) -> None:
        loss = self.recipe(*next(self.batches))
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.recipe.parameters(), 1.0)
        self.optimizer.step()


def seconds_per_step(ways: dict[str, Step], steps: dict[str, int]) -> dict[str, float]:
    """Medians over the rounds of a turn's mean; a turn's first step is not timed."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            way()
            begun = time.perf_counter()
            for _ in range(steps[name]):
                way()
            seconds[name].append((time.perf_counter() - begun) / steps[name])
    return {name: statistics.median(values) for name, values in seconds.items()}


@pytest.mark.parametrize("B", [152, 512])
def test_speed(B: int, corpus: BinaryCorpus, benchmark: Any, capsys: Any) -> None:
    """Pairs per second beside the released recipe, with its cosines and with plain ones."""
    pairs = all_pairs(corpus, 20_000)
    ours = {
        "ems-fast": Ours(corpus, B),
        "ems-fast, float32": Ours(corpus, B, precision="fp32"),
        "ems-fast, reference losses": Ours(corpus, B, impl="reference"),
    }
    plain = {
        "released recipe": Plain(corpus, pairs, B, expanded=True),
        "... with plain cosines": Plain(corpus, pairs, B, expanded=False),
    }
    # The recipe's steps take seconds: one a turn.
    steps = dict.fromkeys(ours, STEPS) | dict.fromkeys(plain, 1)
    times = seconds_per_step({**ours, **plain}, steps)
    taken = (STEPS + 1) * ROUNDS
    waiting = ours["ems-fast"].waited / (taken * times["ems-fast"])
    for way in ours.values():
        way.batches.close()
    benchmark.extra_info.update(times, waiting=waiting)
    benchmark.pedantic(lambda: None)
    with capsys.disabled():
        print(f"\nB = {B}, {torch.get_num_threads()} threads, {ROUNDS} rounds")
        for name, value in times.items():
            print(
                f"  {name:30s}{1e3 * value:8.0f} ms{B / value:8.0f} pairs/s"
                f"{value / times['ems-fast']:8.2f} x{value / times['ems-fast, float32']:8.2f} x"
            )
        print(f"  waiting for data: {100 * waiting:.2f} % of a step")
    assert waiting < 0.02


class Products(TorchDispatchMode):
    """Collects the shapes of all matrix products of what runs under it."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[Tensor, Tensor]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        name = func.overloadpacket.__name__
        if name in ("mm", "bmm"):
            self.found.append((args[0].detach(), args[1].detach()))
        elif name == "addmm":
            self.found.append((args[1].detach(), args[2].detach()))
        return func(*args, **(kwargs or {}))


def bare_products(ours: Ours, batch: Batch) -> Step:
    """The step's matrix products alone: recorded operands, and the three of each objective."""
    with Products() as products:
        ours.loss(batch).backward()
    ours.optimizer.zero_grad()
    operands = products.found
    # The objectives' products are inside of their operators.
    model, dtype = ours.model, ours.dtype or torch.float32
    rows = torch.randn(2 * batch.num_pairs, model.config.head_width, dtype=dtype)
    weight = model.output.detach().to(dtype)
    logits = torch.randn(len(rows), len(weight), dtype=dtype)
    operands += [(rows, weight.t()), (logits, weight), (logits.t(), rows)]
    a = torch.randn(batch.num_pairs, model.config.projection_width or model.config.width)
    scores = torch.randn(len(a), len(a))
    operands += [(a, a.t()), (scores, a), (scores.t(), a)]

    def run() -> None:
        with torch.no_grad():
            for x, y in operands:
                torch.matmul(x, y)

    return run


@pytest.mark.parametrize("precision", ["auto", "fp32"])
@pytest.mark.parametrize("B", [152, 512])
def test_floor(B: int, precision: str, corpus: BinaryCorpus, benchmark: Any, capsys: Any) -> None:
    """A step's time over that of its bare matrix products: same shapes, same run."""
    ours = Ours(corpus, B, precision=precision)
    batches = [next(ours.batches)[0] for _ in range(STEPS)]
    ways: dict[str, Step] = {}
    for i, batch in enumerate(batches):
        ways[f"step {i}"] = lambda batch=batch: ours.step(batch)
        ways[f"products {i}"] = bare_products(ours, batch)
    times = seconds_per_step(ways, dict.fromkeys(ways, 1))
    ours.batches.close()
    step, products = (
        sum(value for name, value in times.items() if name.startswith(kind))
        for kind in ("step", "products")
    )
    benchmark.extra_info.update(ratio=step / products)
    benchmark.pedantic(lambda: None)
    with capsys.disabled():
        print(
            f"\nB = {B}, {precision}: step {1e3 * step / STEPS:.0f} ms, bare products "
            f"{1e3 * products / STEPS:.0f} ms, ratio {step / products:.2f}"
        )


def as_batch(rows: Pairs) -> Batch:
    """The same pairs for both ways."""
    sides = [[r[0] for r in rows], [r[1] for r in rows]]
    sentences, others = sides[0] + sides[1], sides[1] + sides[0]

    def flat(ids: list[list[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        lengths = np.array([len(s) for s in ids])
        return np.concatenate(ids).astype(np.int64), np.cumsum(lengths) - lengths, lengths

    ids, _, lengths = flat(others)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    unique = torch.arange(len(rows))  # the recipe masks no duplicates
    return Batch(
        pack(*flat(sentences)),
        BagOfWords.from_packed(torch.from_numpy(ids), torch.from_numpy(offsets)),
        torch.tensor([r[3] for r in rows] + [r[2] for r in rows]),
        unique,
        unique,
    )


def some_batches(pairs: Pairs, B: int, n: int) -> Iterator[Pairs]:
    rng = np.random.default_rng(1)
    for _ in range(n):
        yield [pairs[i] for i in rng.choice(len(pairs), B, replace=False)]


# A run's first steps: the learning rate rises to its peak over 5 % of some thousand steps.
WARMUP = 160
PEAK = 1e-3


class Recipe:
    """The recipe's losses with our optimiser's settings, in the dtype of its model."""

    def __init__(self, model: EMSModel):
        self.recipe = PlainRecipe(model, expanded=False)
        self.optimizer = torch.optim.AdamW(self.recipe.parameters(), lr=PEAK, weight_decay=0.01)

    def schedule(self, factor: float) -> None:
        self.optimizer.param_groups[0]["lr"] = PEAK * factor

    def step(self, rows: Pairs) -> Tensor:
        loss = self.recipe(
            padded([r[0] for r in rows], [r[2] for r in rows]),
            padded([r[1] for r in rows], [r[3] for r in rows]),
        )
        self.optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.recipe.parameters(), 1.0)
        self.optimizer.step()
        return loss.detach()


def curves(ways: dict[str, Ours | Recipe], pairs: Pairs, B: int, n: int) -> dict[str, Tensor]:
    """The losses [n] of every way on the same batches."""
    losses: dict[str, list[Tensor]] = {name: [] for name in ways}
    for i, rows in enumerate(some_batches(pairs, B, n)):
        batch = as_batch(rows)
        for name, way in ways.items():
            way.schedule(min(1.0, (i + 1) / WARMUP))
            losses[name].append(way.step(batch if isinstance(way, Ours) else rows))
    for way in ways.values():
        if isinstance(way, Ours):
            way.batches.close()
    return {name: torch.stack(values).double() for name, values in losses.items()}


def test_curve(corpus: BinaryCorpus, benchmark: Any, capsys: Any) -> None:
    """200 steps on the same batches: the recipe's losses and ours, step for step.

    In float64 both must be the same function. Training amplifies roundings, so in float32 even the
    recipe leaves its own curve; ours is to stay as near to it.
    """
    B, n = 32, int(os.environ.get("TRAINING_CURVE", "200"))
    pairs = all_pairs(corpus, 5_000)
    wide = Ours(corpus, B, precision="fp32")
    wide.model.double()
    ways: dict[str, Ours | Recipe] = {
        "recipe": Recipe(new_model(corpus).double()),
        "ems-fast, float64": wide,
        "recipe, float32": Recipe(new_model(corpus)),
        "ems-fast, float32": Ours(corpus, B, precision="fp32"),
        "ems-fast, bfloat16": Ours(corpus, B, precision="bf16"),
    }
    found = curves(ways, pairs, B, n)
    want = found.pop("recipe")
    off = {name: (values / want - 1).abs() for name, values in found.items()}
    benchmark.extra_info.update({name: float(value.max()) for name, value in off.items()})
    benchmark.pedantic(lambda: None)
    with capsys.disabled():
        print(f"\n{n} steps of {B} pairs: the loss goes from {want[0]:.3f} to {want[-1]:.3f}")
        for name, value in off.items():
            print(f"  {name:20s} off by {value.max():.1e} at most, {value.mean():.1e} on average")
    assert float(off["ems-fast, float64"].max()) < 1e-3
    assert float(off["ems-fast, float32"].mean()) < 3 * float(off["recipe, float32"].mean())
