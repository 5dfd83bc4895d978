"""How XTR's products are made: in which dtype, and in which chunks of the vocabulary."""

from __future__ import annotations

import torch

from ems_fast.ops.gemm import is_native
from ems_fast.ops.native import has_fast_bfloat16, runs_on_cuda

# A chunk of logits of about this size is still in cache when it is read back; smaller ones would
# make threads meet more often, which costs most on a busy machine.
CHUNK_BYTES = 8 << 20
CHUNK_WORDS_MIN, CHUNK_WORDS_MAX = 256, 8192
# The project's own products start at once and read a chunk sooner: about the second-level caches of
# two cores. In whole blocks of rows (96, csrc/gemm_kernel.h) for up to four threads.
NATIVE_CHUNK_BYTES = 3 << 20
NATIVE_CHUNK_UNIT = 384
# A GPU's cache holds less of a chunk than its launches cost: fewer and larger ones.
CUDA_CHUNK_BYTES = 64 << 20


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """What products in `dtype` are summed in."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def computed_dtype(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype in which products asked for in `dtype` are computed."""
    if dtype == torch.bfloat16 and not runs_on_cuda(device) and not has_fast_bfloat16():
        # The same roundings of the inputs, in products that this processor is good at.
        return torch.float32
    return dtype


def padded_rows(B: int, dtype: torch.dtype, device: torch.device) -> int:
    """The columns of a chunk of logits: B, on a GPU rounded up.

    There every word's logits begin at a multiple of 16 bytes, as the fast products of cuBLAS want.
    """
    unit = 16 // dtype.itemsize if runs_on_cuda(device) else 1
    return -(-B // unit) * unit


def chunk_words(B: int, V: int, dtype: torch.dtype, device: torch.device) -> int:
    """Words per chunk, from the batch alone: never from the ratio of V to D."""
    most = CHUNK_WORDS_MAX
    if runs_on_cuda(device):
        # Rows of the weight's gradient stay aligned to whole lines of memory.
        nbytes, unit, most = CUDA_CHUNK_BYTES, 128, V
    elif is_native(dtype, device):
        nbytes, unit = NATIVE_CHUNK_BYTES, NATIVE_CHUNK_UNIT
    else:
        nbytes, unit = CHUNK_BYTES, 64
    words = nbytes // (max(B, 1) * dtype.itemsize) // unit * unit
    return min(max(words, CHUNK_WORDS_MIN), most, V)


def kept_words(B: int, V: int, dtype: torch.dtype, chunk: int, budget: int) -> int:
    """Words whose exponentials fit the budget; whole chunks, or all."""
    if B * V * dtype.itemsize <= budget:
        return V
    return budget // (max(B, 1) * chunk * dtype.itemsize) * chunk
