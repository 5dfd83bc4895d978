"""The contrastive loss's kernels (csrc/contrastive.h, csrc/contrastive_cuda.h), on tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ems_fast.errors import InputError
from ems_fast.ops.contrastive.reference import NORM_EPS
from ems_fast.ops.native import DTYPES, Kernels

# With 2 / temperature up to this, exp((cos − 1) / temperature) keeps full precision for every
# cosine: no running maximum is needed, and one exponential serves rows and columns.
BOUNDED_SPAN = {torch.float32: 60.0, torch.float64: 600.0}


def _host_value(temperature: Tensor) -> float | None:
    """The temperature, unless reading it would wait for a device."""
    return temperature.item() if temperature.device.type == "cpu" else None


class ContrastiveKernels:
    """The kernels for one pair of inputs. On a GPU nothing waits for the device.

    Attributes:
        k: 1 / temperature; on a GPU a float64 scalar there.

    Args:
        like: has the device and the dtype, float32 or float64.
        temperature: a scalar.
        maximum: what exponentials are relative to, [B + M], rows and then columns; not used while
            2 / temperature is small: then it is 1.
        M: columns; the positive of row i is column i.
        source_ids: of the columns, int64 [M]; equal ones are not negatives of each other.
        target_ids: likewise.

    Raises:
        InputError: a temperature that is not positive and finite, where its value is known.
    """

    def __init__(
        self,
        like: Tensor,
        temperature: Tensor,
        maximum: Tensor,
        M: int,
        source_ids: Tensor | None,
        target_ids: Tensor | None,
    ) -> None:
        self._kernels = Kernels(like.device)
        self._dtype, self._B, self._M = DTYPES[like.dtype], maximum.numel() - M, M
        self._duplicates = self._group(source_ids), self._group(target_ids)
        self._maximum: Tensor | None = maximum  # suits any value
        self.k: Tensor | float
        value = _host_value(temperature)
        if value is None and self._kernels.on_cuda:
            self.k = temperature.double().reciprocal()
            return
        value = temperature.item() if value is None else value
        if not 0 < value < float("inf"):
            raise InputError(f"temperature: got {value}, expected a positive finite number")
        self.k = 1 / value
        if self._kernels.on_cuda:
            self.k = like.new_full((), self.k, dtype=torch.float64)
        if 2 / value <= BOUNDED_SPAN[like.dtype]:
            self._maximum = None

    def workspace(self, rows: int, columns: int, like: Tensor) -> Tensor:
        """What `accumulate` needs beside a tile of this size."""
        bounded = self._maximum is None
        return like.new_empty(
            self._kernels.run("contrastive_workspace_size", rows, columns, bounded)
        )

    def normalise(self, unit: Tensor, inverse_norm: Tensor, x: Tensor) -> None:
        """Fill unit [R, E] and inverse_norm [R] from x [R, E]."""
        self._kernels.run(
            "contrastive_normalise", unit, inverse_norm, x.contiguous(), self._dtype, *x.shape,
            NORM_EPS,
        )  # fmt: skip

    def accumulate(
        self, sums: Tensor, positive: Tensor, tile: Tensor, workspace: Tensor, row: int,
        column: int, keep: bool,
    ) -> None:  # fmt: skip
        """Add the exponentials of tile [R, C], at (row, column), to sums [B + M]."""
        self._kernels.run(
            "contrastive_accumulate", sums, self._maximum, positive, tile, workspace,
            *self._at(tile, row, column), keep,
        )  # fmt: skip

    def finish(self, loss: Tensor, sums: Tensor) -> None:
        """Turn the positives' cosines into losses [B], in place."""
        self._kernels.run(
            "contrastive_finish", loss, sums, self._maximum, self.k, self._dtype, self._B
        )

    def weigh(self, weight: Tensor, sums: Tensor, grad_loss: Tensor) -> None:
        """What an exponential of each row and column weighs in the gradient, weight [B + M]."""
        self._kernels.run(
            "contrastive_weigh", weight, sums, grad_loss, self.k, self._dtype, self._B, self._M
        )

    def gradient(
        self, gradient: Tensor, tile: Tensor, weight: Tensor, grad_loss: Tensor, row: int,
        column: int, kept: bool,
    ) -> None:  # fmt: skip
        """Turn tile [R, C], at (row, column), into the gradient of its cosines."""
        self._kernels.run(
            "contrastive_gradient", gradient, tile, weight, self._maximum, grad_loss,
            *self._at(tile, row, column), kept,
        )  # fmt: skip

    def normalise_backward(self, grad: Tensor, unit: Tensor, inverse_norm: Tensor) -> Tensor:
        """Turn the gradient of unit [R, E] into that of x, in place; Σ grad · unit, float64."""
        along = grad.new_empty((), dtype=torch.float64)
        # A GPU writes every row's down, to add them in order.
        dots = grad.new_empty(len(grad), dtype=torch.float64) if self._kernels.on_cuda else None
        self._kernels.run(
            "contrastive_normalise_backward", grad, along, dots, unit, inverse_norm, self._dtype,
            *grad.shape, NORM_EPS,
        )  # fmt: skip
        return along

    def _group(self, ids: Tensor | None) -> Tensor | None:
        """What kernels want to know of ids [M]: on the CPU the columns that share one."""
        if ids is None or self._kernels.on_cuda:
            return None if ids is None else ids.contiguous()  # a GPU compares them
        groups = torch.empty(3, ids.numel(), dtype=torch.int32)
        found = self._kernels.run(
            "contrastive_group_duplicates", groups, ids.contiguous(), ids.numel()
        )
        return groups if found else None

    def _at(self, tile: Tensor, row: int, column: int) -> tuple[Any, ...]:
        place = (row, tile.shape[0], column, tile.shape[1], tile.stride(0))
        return (*self._duplicates, self.k, self._dtype, *place, self._B, self._M)
