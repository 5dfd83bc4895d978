"""The released recipe written plainly (`baselines.plain_recipe`), trained by a plain loop.

Options: ``learning_rate``, ``batch_pairs`` (152), ``weight_decay`` (1e-5), ``warmup`` (0.05, a
share of the run), ``sampling_exponent`` (0.5), ``expanded`` (False): cosines from vectors expanded
to [B, B, E] as released, which is slower than one product and computes the same; and fields of
`ems_fast.ModelConfig` over a model of `MODEL`'s sizes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from baselines.plain_recipe import PlainRecipe, Side, padded

from ems_fast import SentenceEncoder
from ems_fast.corpus import BinaryCorpus
from ems_fast.model.config import preset
from ems_fast.model.ems import EMSModel
from study.budget import Budget, learning_rate_factor
from study.config import Places, Row
from study.systems import Trained
from study.systems.sampling import shares

MODEL = {
    "layers": 2, "width": 256, "heads": 4, "ffn_width": 1024, "language_width": 64,
    "projection_width": 128, "reconstruction": True,
}  # fmt: skip


def train(row: Row, corpus: BinaryCorpus, places: Places) -> Trained:
    """Train in float32 with Adam (amsgrad), linear warm-up × cosine."""
    options = dict(row.options)
    learning_rate: float = options.pop("learning_rate")
    B: int = options.pop("batch_pairs", 152)
    weight_decay: float = options.pop("weight_decay", 1e-5)
    warmup: float = options.pop("warmup", 0.05)
    exponent: float = options.pop("sampling_exponent", 0.5)
    expanded: bool = options.pop("expanded", False)
    torch.manual_seed(row.seed)
    sizes: dict[str, Any] = {
        **MODEL, **options, "vocab_size": corpus.vocab_size, "languages": tuple(corpus.languages)
    }  # fmt: skip
    model = EMSModel(preset("mini", **sizes))
    recipe = PlainRecipe(model, expanded=expanded)
    optimizer = torch.optim.Adam(
        recipe.parameters(), lr=learning_rate, weight_decay=weight_decay, amsgrad=True,
        foreach=False,
    )  # fmt: skip
    batches = _batches(corpus, B, exponent, row.seed)
    budget = Budget(row.minutes, row.pairs)
    recipe.train()
    budget.start()
    while budget.progress < 1:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * learning_rate_factor(budget.progress, warmup, "cosine")
        loss = recipe(*next(batches))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(recipe.parameters(), 1.0)
        optimizer.step()
        budget.step(B)
    budget.stop()
    encoder = SentenceEncoder(model.encoder, corpus.tokenizer, model.config, torch.device("cpu"))
    return Trained(
        encoder, budget.seconds / 60, budget.pairs, budget.steps, {"last_loss": loss.item()}
    )


def _batches(
    corpus: BinaryCorpus, B: int, exponent: float, seed: int
) -> Iterator[tuple[Side, Side]]:
    """An endless stream of random batches; the ids come from the prepared corpus."""
    rng = np.random.default_rng(seed)
    index = {language: i for i, language in enumerate(corpus.languages)}
    probabilities = shares([shard.num_pairs for shard in corpus.shards], exponent)
    while True:
        drawn = [corpus.shards[i] for i in rng.choice(len(corpus.shards), B, p=probabilities)]
        pairs = [shard.pair(int(rng.integers(shard.num_pairs))) for shard in drawn]
        yield (
            padded([a.tolist() for a, _ in pairs], [index[shard.source] for shard in drawn]),
            padded([b.tolist() for _, b in pairs], [index[shard.target] for shard in drawn]),
        )
