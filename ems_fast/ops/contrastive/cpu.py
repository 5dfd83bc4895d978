"""The contrastive loss's kernels for the CPU (csrc/contrastive.h), on tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ems_fast.ops.contrastive.reference import NORM_EPS
from ems_fast.ops.native import address, kernels, num_threads


class CpuKernels:
    """The kernels over tensors of one dtype, for one pair of inputs.

    Args:
        dtype: float32 or float64.
        B: rows.
        M: columns; the positive of row i is column i.
        k: 1 / temperature.
        bounded: exponentials are taken relative to cosine 1; `maximum` is not used.
    """

    def __init__(self, dtype: torch.dtype, B: int, M: int, *, k: float, bounded: bool):
        self._native = kernels()
        self._suffix = "_f32" if dtype == torch.float32 else "_f64"
        self._sizes = (B, M)
        self._k = k
        self._bounded = bounded
        self._threads = num_threads()

    def _kernel(self, name: str) -> Callable[..., Any]:
        kernel: Callable[..., Any] = getattr(self._native, f"contrastive_{name}{self._suffix}")
        return kernel

    def _maximum(self, maximum: Tensor) -> int:
        return 0 if self._bounded else maximum.data_ptr()

    def group_duplicates(self, ids: Tensor | None) -> Tensor | None:
        """Which columns share an id, int32 [3, M]; None if no two do."""
        if ids is None:
            return None
        ids = ids.contiguous()
        groups = torch.empty(3, ids.numel(), dtype=torch.int32)
        found = self._native.contrastive_group_duplicates(
            groups.data_ptr(), ids.data_ptr(), ids.numel()
        )
        return groups if found else None

    def workspace_size(self, rows: int, columns: int) -> int:
        """Elements that `accumulate` needs beside a tile."""
        size: int = self._native.contrastive_workspace_size(rows, columns, self._bounded)
        return size

    def normalise(self, unit: Tensor, inverse_norm: Tensor, x: Tensor) -> None:
        """Fill unit [R, E] and inverse_norm [R] from x [R, E]."""
        x = x.contiguous()
        self._kernel("normalise")(
            unit.data_ptr(),
            inverse_norm.data_ptr(),
            x.data_ptr(),
            *x.shape,
            NORM_EPS,
            self._threads,
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
        self._kernel("accumulate")(
            sums.data_ptr(),
            self._maximum(maximum),
            positive.data_ptr(),
            tile.data_ptr(),
            workspace.data_ptr(),
            address(sources),
            address(targets),
            row,
            tile.shape[0],
            column,
            tile.shape[1],
            tile.stride(0),
            *self._sizes,
            self._k,
            keep,
            self._threads,
        )

    def finish(self, loss: Tensor, sums: Tensor, maximum: Tensor) -> None:
        """Turn the positives' cosines into losses [B], in place."""
        self._kernel("finish")(
            loss.data_ptr(), sums.data_ptr(), self._maximum(maximum), *self._sizes, self._k
        )

    def weigh(self, weight: Tensor, sums: Tensor, grad_loss: Tensor) -> None:
        """What an exponential of each row and column weighs in the gradient, weight [B + M]."""
        self._kernel("weigh")(
            weight.data_ptr(), sums.data_ptr(), grad_loss.data_ptr(), *self._sizes, self._k
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
        self._kernel("gradient")(
            gradient.data_ptr(),
            tile.data_ptr(),
            weight.data_ptr(),
            self._maximum(maximum),
            grad_loss.data_ptr(),
            address(sources),
            address(targets),
            row,
            tile.shape[0],
            column,
            tile.shape[1],
            tile.stride(0),
            *self._sizes,
            self._k,
            kept,
            self._threads,
        )

    def normalise_backward(self, grad: Tensor, unit: Tensor, inverse_norm: Tensor) -> Tensor:
        """Turn the gradient of unit [R, E] into that of x, in place; −k Σ grad · unit, float64."""
        along: float = self._kernel("normalise_backward")(
            grad.data_ptr(),
            unit.data_ptr(),
            inverse_norm.data_ptr(),
            *grad.shape,
            NORM_EPS,
            self._threads,
        )
        return torch.tensor(-self._k * along, dtype=torch.float64)
