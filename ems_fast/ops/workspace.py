"""Large CPU buffers that outlive a call: fresh memory costs a page fault for every page.

The first write to a fresh buffer of the size of a vocabulary's gradient takes as long as the matrix
product that fills it. So memory comes from a pool and returns to it by itself when the last tensor
that uses it is gone, whether that is the end of a call, of backward, or `optimizer.zero_grad`.

Two limits, in MiB, from the environment when this is imported:

- ``EMS_FAST_WORKSPACE_MB`` (512): what one loss may keep from forward for backward. What does not
  fit is computed again in backward.
- ``EMS_FAST_POOL_MB`` (1024): idle memory that the pool holds for the next call.
"""

from __future__ import annotations

import math
import os
import threading
import weakref

import numpy as np
import torch
from torch import Tensor

from ems_fast.errors import InputError

MIB = 1 << 20
# Below this, malloc itself recycles memory well.
POOLED_BYTES = 1 * MIB
# A vector across two cache lines costs twice; malloc's large blocks begin 16 bytes into a page.
ALIGNMENT = 64


class Pool:
    """Recycles the memory of CPU tensors. Thread-safe."""

    def __init__(self, idle_limit: int) -> None:
        self._idle_limit = idle_limit
        self._idle: list[np.ndarray] = []  # Oldest first.
        # Reentrant: a tensor may die, and give its block back, while this thread holds the lock.
        self._lock = threading.RLock()

    @property
    def idle_bytes(self) -> int:
        """Bytes held for later use."""
        with self._lock:
            return sum(block.nbytes for block in self._idle)

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
        """An uninitialised contiguous CPU tensor; its memory returns when its last alias dies."""
        nbytes = math.prod(shape) * dtype.itemsize
        if nbytes < POOLED_BYTES:
            return torch.empty(shape, dtype=dtype)
        with self._lock:
            # The best fit, as long as not half of it would lie idle.
            fitting = [b for b in self._idle if nbytes <= b.nbytes <= 2 * nbytes]
            block = min(fitting, key=lambda b: b.nbytes, default=None)
            if block is not None:
                # By identity: == of arrays compares their elements.
                self._idle = [b for b in self._idle if b is not block]
        if block is None:
            # numpy asks the kernel for huge pages; rounded up so that similar batches share it.
            raw = np.empty(-(-nbytes // MIB) * MIB + ALIGNMENT, np.uint8)
            skip = -raw.ctypes.data % ALIGNMENT
            block = raw[skip : skip + raw.nbytes - ALIGNMENT]
        # The tensor's storage keeps `loan` alive; when it goes, so does every alias of the memory.
        loan = block[:nbytes]
        weakref.finalize(loan, self._give_back, block).atexit = False
        return torch.from_numpy(loan).view(dtype).view(shape)

    def _give_back(self, block: np.ndarray) -> None:
        with self._lock:
            self._idle.append(block)
            self._evict()

    def _evict(self) -> None:
        while self._idle and sum(b.nbytes for b in self._idle) > self._idle_limit:
            del self._idle[0]


def _megabytes(name: str, default: int) -> int:
    text = os.environ.get(name, str(default))
    if not text.isdigit():
        raise InputError(f"{name}: got {text!r}, expected a whole number of MiB")
    return int(text) * MIB


pool = Pool(_megabytes("EMS_FAST_POOL_MB", 1024))
_budget = _megabytes("EMS_FAST_WORKSPACE_MB", 512)


def budget() -> int:
    """Bytes that one loss may keep from forward for backward, unless its call says otherwise."""
    return _budget


def empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """An uninitialised tensor: from the pool on the CPU, from torch's own caches elsewhere."""
    if device.type == "cpu":
        return pool.empty(shape, dtype)
    return torch.empty(shape, dtype=dtype, device=device)
