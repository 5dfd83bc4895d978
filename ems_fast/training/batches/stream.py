"""Batches made in a thread, ahead of the step that needs them."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ems_fast.corpus import BinaryCorpus
from ems_fast.distributed.ranks import Ranks
from ems_fast.training.batches.batch import Batch
from ems_fast.training.batches.builder import BatchBuilder
from ems_fast.training.batches.config import BatchConfig
from ems_fast.training.batches.sampler import PairSampler


def batch_stream(
    corpus: BinaryCorpus,
    config: BatchConfig,
    ranks: Ranks,
    state: dict[str, Any] | None = None,
    *,
    with_targets: bool = True,
) -> Generator[tuple[Batch, dict[str, Any]], None, None]:
    """Batches of this rank, each with its state; closing the generator ends its thread.

    A stream started with a batch's state goes on with the next batch. Without `with_targets` the
    bags of words are empty.
    """
    builder = BatchBuilder(corpus, config.weighting if with_targets else None)
    sampler = PairSampler(
        builder.reader, builder.sizes, builder.tokens, config.global_batch(ranks.world), config,
        state,
    )  # fmt: skip
    drawn = iter(sampler)

    def make() -> tuple[Batch, dict[str, Any]]:
        rows, reached = next(drawn)
        batch = builder.build(rows.share(ranks.rank, ranks.world))
        return batch.staged() if ranks.device.type == "cuda" else batch, reached

    thread = ThreadPoolExecutor(1, "ems-fast batches")
    try:
        ahead = deque(thread.submit(make) for _ in range(2))
        while True:
            ahead.append(thread.submit(make))
            yield ahead.popleft().result()
    finally:
        thread.shutdown(cancel_futures=True)
