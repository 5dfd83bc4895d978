"""Batches made in a thread, ahead of the step that needs them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy.typing as npt

from ems_fast.corpus import BinaryCorpus
from ems_fast.distributed.ranks import Ranks
from ems_fast.training.batches.batch import Batch
from ems_fast.training.batches.builder import ALL, BatchBuilder
from ems_fast.training.batches.config import BatchConfig
from ems_fast.training.batches.sampler import PairSampler


def batch_stream(
    corpus: BinaryCorpus,
    config: BatchConfig,
    ranks: Ranks,
    state: dict[str, Any] | None = None,
    *,
    targets: Callable[[int], slice] = lambda _: ALL,
    teacher: npt.NDArray[Any] | None = None,
) -> Generator[tuple[Batch, dict[str, Any]], None, None]:
    """Batches of this rank, each with its state; closing the generator ends its thread.

    A stream started with a batch's state goes on with the next batch. `targets` says which of the
    2B sentences of the stream's first, second, … batch, counted from 0, have bags of words;
    with `teacher`, vectors of the corpus's pairs, batches have its rows.
    """
    builder = BatchBuilder(corpus, config.weighting, teacher)
    sampler = PairSampler(
        builder.reader, builder.sizes, builder.tokens, config.global_batch(ranks.world), config,
        state,
    )  # fmt: skip
    drawn = enumerate(sampler)

    def make() -> tuple[Batch, dict[str, Any]]:
        number, (rows, reached) = next(drawn)
        batch = builder.build(rows.share(ranks.rank, ranks.world), targets(number))
        return batch.staged() if ranks.device.type == "cuda" else batch, reached

    thread = ThreadPoolExecutor(1, "ems-fast batches")
    try:
        ahead = deque(thread.submit(make) for _ in range(2))
        while True:
            ahead.append(thread.submit(make))
            yield ahead.popleft().result()
    finally:
        thread.shutdown(cancel_futures=True)
