"""The data loader: from a memory-mapped corpus to batches, ready before a step needs them."""

from ems_fast.training.batches.batch import Batch
from ems_fast.training.batches.config import BatchConfig
from ems_fast.training.batches.stream import batch_stream

__all__ = ["Batch", "BatchConfig", "batch_stream"]
