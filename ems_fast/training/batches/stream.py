"""Batches made in a thread, ahead of the step that needs them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

from ems_fast.corpus import BinaryCorpus
from ems_fast.distributed.ranks import Ranks
from ems_fast.training.batches.batch import Batch
from ems_fast.training.batches.builder import BatchBuilder
from ems_fast.training.batches.config import BatchConfig
from ems_fast.training.batches.sampler import PairSampler


class BatchStream:
    """Batches of this rank, one or two ahead of the step that needs them, made in a thread.

    Iterating gives (batch, state); a stream started with that state goes on with the next batch.
    Without `with_targets` the bags of words are empty.
    """

    def __init__(
        self,
        corpus: BinaryCorpus,
        config: BatchConfig,
        ranks: Ranks,
        state: dict[str, Any] | None = None,
        *,
        with_targets: bool = True,
    ):
        self._builder = BatchBuilder(corpus, config.weighting if with_targets else None)
        self._sampler = PairSampler(
            self._builder.reader, self._builder.sizes, self._builder.tokens,
            config.global_batch(ranks.world), config, state,
        )  # fmt: skip
        self._ranks = ranks
        self._queue: queue.Queue[tuple[Batch, dict[str, Any]] | BaseException] = queue.Queue(2)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, name="ems-fast batches", daemon=True)
        self._thread.start()

    def __iter__(self) -> Iterator[tuple[Batch, dict[str, Any]]]:
        while True:
            item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            yield item

    def close(self) -> None:
        """Stop the thread."""
        self._closed.set()
        self._thread.join()

    def _fill(self) -> None:
        try:
            for rows, state in self._sampler:
                batch = self._builder.build(rows.share(self._ranks.rank, self._ranks.world))
                if self._ranks.device.type == "cuda":
                    batch = batch.pin_memory()
                if not self._put((batch, state)):
                    return
        except BaseException as error:
            self._put(error)

    def _put(self, item: tuple[Batch, dict[str, Any]] | BaseException) -> bool:
        """Wait for room; False when the stream was closed meanwhile."""
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False
