"""What a step says that runs out of memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ems_fast.errors import TrainingError
from ems_fast.training.batches.batch import Batch

# torch has a class of its own for the memory that it manages on a GPU, but not for a CPU's, nor for
# what cuBLAS or a kernel asks for by itself.
_SAID = ("can't allocate memory", "out of memory", "_ALLOC_FAILED")


@contextmanager
def memory_errors(step: int, batch: Batch, slice_tokens: int | None) -> Iterator[None]:
    """Explain the errors of a step that finds too little memory for its batch.

    Raises:
        TrainingError: memory ran out; it names the batch and what would make it fit.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not _is_lack_of_memory(error):
            raise
        sliced = f", in slices of slice_tokens={slice_tokens}" if slice_tokens else ""
        suggested = max((slice_tokens or batch.num_tokens) // 4, 1)
        first_line = str(error).partition("\n")[0].partition(". ")[0]
        raise TrainingError(
            f"step {step} ran out of memory over a batch of {batch.num_pairs} pairs, "
            f"{batch.num_tokens} tokens{sliced} ({first_line}); the last checkpoint is whole: "
            f"resume it with slice_tokens={suggested}, which keeps less for backward and leaves "
            "the gradients as they are, or with a smaller batch_pairs or batch_tokens"
        ) from error


def _is_lack_of_memory(error: Exception) -> bool:
    known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
    return known or any(words in str(error) for words in _SAID)
