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


def positives_of(tile: Tensor, row: int, column: int) -> Tensor:
    """The entries of tile, at (row, column), on the diagonal of the whole."""
    return tile.diagonal(row - column)


class ContrastiveKernels:
    """The kernels for one pair of inputs. On a GPU nothing waits for the device.

    Attributes:
        slope: 1 / temperature, the derivative of a score; on a GPU a float64 scalar there.
        k: `slope` + hardness, what a negative's cosine has in its exponent; likewise.

    Args:
        like: has the device and the dtype, float32 or float64.
        temperature: a scalar.
        maximum: what exponentials are relative to, [B + M], rows and then columns; not used while
            2 / temperature is small: then it is 1.
        M: columns; the positive of row i is column i.
        source_ids: of the columns, int64 [M]; equal ones are not negatives of each other.
        target_ids: likewise.
        margin: is subtracted from the cosines of positives.
        hardness: of negatives.
        several: what shares an id is positive; otherwise it is left out.

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
        margin: float,
        hardness: float,
        several: bool,
    ) -> None:
        self._kernels = Kernels(like.device)
        self._dtype, self._B, self._M = DTYPES[like.dtype], maximum.numel() - M, M
        groups = self._group(source_ids), self._group(target_ids)
        self._several, self._margin, self._hardness = several, margin, hardness
        self._positives = groups if several else (None, None)
        self._masked = (None, None) if several else groups
        self._maximum: Tensor | None = maximum  # suits any value
        self.k: Tensor | float
        self.slope: Tensor | float
        value = _host_value(temperature)
        if value is None and self._kernels.on_cuda:
            self.slope = temperature.double().reciprocal()
            self.k = self.slope + hardness
            return
        value = temperature.item() if value is None else value
        if not 0 < value < float("inf"):
            raise InputError(f"temperature: got {value}, expected a positive finite number")
        self.slope, self.k = 1 / value, 1 / value + hardness
        if self._kernels.on_cuda:
            self.slope, self.k = (
                like.new_full((), x, dtype=torch.float64) for x in (self.slope, self.k)
            )
        if 2 / value + 2 * hardness <= BOUNDED_SPAN[like.dtype]:
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

    def place_positives(self, tile: Tensor, row: int, column: int, totals: Tensor | None) -> None:
        """Turn cosines of positives in tile [R, C], at (row, column), into what exponents want.

        ``k · (cos − margin) · share`` is then the score of a positive, as ``k · cos`` is that of a
        negative with its weight. Of several positives also fill `totals`, float64 [2, B + M]: the
        sums over those of each row and of each column, and how many they are.
        """
        if self._several:
            share = self.slope / self.k
            sums, counts = (None, None) if totals is None else totals
            self._kernels.run(
                "contrastive_gather_positives", tile, sums, counts, self._margin, share,
                *self._positives, self._dtype, *self._place(tile, row, column),
            )  # fmt: skip
            return
        if self._margin:
            positives_of(tile, row, column).sub_(self._margin)
        if self._hardness:
            positives_of(tile, row, column).mul_(self.slope / self.k)

    def pull_positives(
        self, gradient: Tensor, along: Tensor, pull: Tensor, row: int, column: int
    ) -> None:
        """Take pull [B + M], of rows and of columns, from the gradient of several positives.

        What is left of a row's is added to along, float64 [B].
        """
        self._kernels.run(
            "contrastive_pull_positives", gradient, along, pull, *self._positives, self._dtype,
            *self._place(gradient, row, column),
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
            "contrastive_weigh", weight, sums, grad_loss, self.slope, self._dtype, self._B, self._M
        )

    def gradient(
        self, gradient: Tensor, tile: Tensor, weight: Tensor, grad_loss: Tensor, row: int,
        column: int, kept: bool,
    ) -> None:  # fmt: skip
        """Turn tile [R, C], at (row, column), into the gradient of its cosines.

        Of several positives without their pull.
        """
        slope = self.slope * 0 if self._several else self.slope
        self._kernels.run(
            "contrastive_gradient", gradient, tile, weight, self._maximum, grad_loss, slope,
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
        return (*self._masked, self.k, self._dtype, *self._place(tile, row, column))

    def _place(self, tile: Tensor, row: int, column: int) -> tuple[int, ...]:
        return (row, tile.shape[0], column, tile.shape[1], tile.stride(0), self._B, self._M)
