"""The contrastive loss's kernels for CUDA (csrc/contrastive_cuda.h), on tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from ems_fast.ops.contrastive.reference import NORM_EPS
from ems_fast.ops.native import CudaQueue, address, cuda_kernels


class CudaKernels:
    """The kernels over tensors of one dtype and device, for one pair of inputs.

    The methods are those of `CpuKernels`. None waits for the device: all work is queued on torch's
    current stream, and the temperature stays on the device.

    Args:
        dtype: float32 or float64.
        B: rows.
        M: columns; the positive of row i is column i.
        k: 1 / temperature, a float64 scalar on the device.
        bounded: exponentials are taken relative to cosine 1; `maximum` is not used.
    """

    def __init__(self, dtype: torch.dtype, B: int, M: int, *, k: Tensor, bounded: bool):
        self._queue = CudaQueue(k.device)
        self._suffix = "_f32" if dtype == torch.float32 else "_f64"
        self._B, self._M = B, M
        self._k = k
        self._bounded = bounded

    def _run(self, name: str, *arguments: object) -> None:
        self._queue.run(f"contrastive_{name}{self._suffix}", *arguments)

    def _maximum(self, maximum: Tensor) -> int:
        return 0 if self._bounded else maximum.data_ptr()

    def group_duplicates(self, ids: Tensor | None) -> Tensor | None:
        """The ids themselves, int64 [M]: a GPU compares them."""
        return None if ids is None else ids.contiguous()

    def workspace_size(self, rows: int, columns: int) -> int:
        """Elements that `accumulate` needs beside a tile."""
        size: int = cuda_kernels().contrastive_workspace_size(rows, columns)
        return size

    def normalise(self, unit: Tensor, inverse_norm: Tensor, x: Tensor) -> None:
        """Fill unit [R, E] and inverse_norm [R] from x [R, E]."""
        x = x.contiguous()
        self._run(
            "normalise",
            unit.data_ptr(),
            inverse_norm.data_ptr(),
            x.data_ptr(),
            *x.shape,
            NORM_EPS,
        )

    def accumulate(
        self,
        sums: Tensor,
        maximum: Tensor,
        positive: Tensor,
        tile: Tensor,
        workspace: Tensor,
        sources: Tensor | None,
        targets: Tensor | None,
        row: int,
        column: int,
        keep: bool,
    ) -> None:
        """Add the exponentials of tile [R, C], at (row, column), to sums [B + M]."""
        self._run(
            "accumulate",
            sums.data_ptr(),
            self._maximum(maximum),
            positive.data_ptr(),
            tile.data_ptr(),
            workspace.data_ptr(),
            self._k.data_ptr(),
            address(sources),
            address(targets),
            row,
            tile.shape[0],
            column,
            tile.shape[1],
            tile.stride(0),
            self._B,
            keep,
        )

    def finish(self, loss: Tensor, sums: Tensor, maximum: Tensor) -> None:
        """Turn the positives' cosines into losses [B], in place."""
        self._run(
            "finish",
            loss.data_ptr(),
            sums.data_ptr(),
            self._maximum(maximum),
            self._k.data_ptr(),
            self._B,
        )

    def weigh(self, weight: Tensor, sums: Tensor, grad_loss: Tensor) -> None:
        """What an exponential of each row and column weighs in the gradient, weight [B + M]."""
        self._run(
            "weigh",
            weight.data_ptr(),
            sums.data_ptr(),
            grad_loss.data_ptr(),
            self._k.data_ptr(),
            self._B,
            self._M,
        )

    def gradient(
        self,
        gradient: Tensor,
        tile: Tensor,
        weight: Tensor,
        maximum: Tensor,
        grad_loss: Tensor,
        sources: Tensor | None,
        targets: Tensor | None,
        row: int,
        column: int,
        kept: bool,
    ) -> None:
        """Turn tile [R, C], at (row, column), into the gradient of its cosines."""
        self._run(
            "gradient",
            gradient.data_ptr(),
            tile.data_ptr(),
            weight.data_ptr(),
            self._maximum(maximum),
            grad_loss.data_ptr(),
            self._k.data_ptr(),
            address(sources),
            address(targets),
            row,
            tile.shape[0],
            column,
            tile.shape[1],
            tile.stride(0),
            self._B,
            kept,
        )

    def normalise_backward(self, grad: Tensor, unit: Tensor, inverse_norm: Tensor) -> Tensor:
        """Turn the gradient of unit [R, E] into that of x, in place; −k Σ grad · unit, float64."""
        along = torch.empty_like(self._k)
        dots = grad.new_empty(grad.shape[0], dtype=torch.float64)
        self._run(
            "normalise_backward",
            grad.data_ptr(),
            along.data_ptr(),
            dots.data_ptr(),
            unit.data_ptr(),
            inverse_norm.data_ptr(),
            *grad.shape,
            NORM_EPS,
        )
        return -self._k * along
