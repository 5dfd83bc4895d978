"""The contrastive loss's kernels (csrc/contrastive.h, csrc/contrastive_cuda.h), on tensors."""

from __future__ import annotations

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
        B: rows.
        M: columns; the positive of row i is column i.

    Raises:
        InputError: a temperature that is not positive and finite, where its value is known.
    """

    def __init__(self, like: Tensor, temperature: Tensor, B: int, M: int) -> None:
        self._kernels = Kernels(like.device)
        self._dtype, self._sizes = DTYPES[like.dtype], (B, M)
        value = _host_value(temperature)
        self.k: Tensor | float
        if value is None and self._kernels.on_cuda:
            self.k = temperature.double().reciprocal()
            self._bounded = False  # maxima suit any value
            return
        value = temperature.item() if value is None else value
        if not 0 < value < float("inf"):
            raise InputError(f"temperature: got {value}, expected a positive finite number")
        self.k = 1 / value
        if self._kernels.on_cuda:
            self.k = like.new_full((), self.k, dtype=torch.float64)
        # Exponentials are taken relative to cosine 1, and `maximum` is not used.
        self._bounded = 2 / value <= BOUNDED_SPAN[like.dtype]

    def group_duplicates(self, ids: Tensor | None) -> Tensor | None:
        """What the kernels want to know of ids [M]; None if no two are equal, where that is known.

        On the CPU it is which columns share an id, int32 [3, M]. A GPU compares the ids.
        """
        if ids is None or self._kernels.on_cuda:
            return None if ids is None else ids.contiguous()
        groups = torch.empty(3, ids.numel(), dtype=torch.int32)
        found = self._kernels.run(
            "contrastive_group_duplicates", groups, ids.contiguous(), ids.numel()
        )
        return groups if found else None

    def workspace(self, rows: int, columns: int, like: Tensor) -> Tensor:
        """What `accumulate` needs beside a tile of this size."""
        run = self._kernels.run
        return like.new_empty(run("contrastive_workspace_size", rows, columns, self._bounded))

    def normalise(self, unit: Tensor, inverse_norm: Tensor, x: Tensor) -> None:
        """Fill unit [R, E] and inverse_norm [R] from x [R, E]."""
        self._kernels.run(
            "contrastive_normalise", unit, inverse_norm, x.contiguous(), self._dtype, *x.shape,
            NORM_EPS,
        )  # fmt: skip

    def accumulate(
        self,
        sums: Tensor,
        maximum: Tensor,
        positive: Tensor,
        tile: Tensor,
        workspace: Tensor,
        duplicates: tuple[Tensor | None, Tensor | None],
        row: int,
        column: int,
        keep: bool,
    ) -> None:
        """Add the exponentials of tile [R, C], at (row, column), to sums [B + M]."""
        self._kernels.run(
            "contrastive_accumulate", sums, self._used(maximum), positive, tile, workspace,
            *duplicates, self.k, self._dtype, *_place(tile, row, column), *self._sizes, keep,
        )  # fmt: skip

    def finish(self, loss: Tensor, sums: Tensor, maximum: Tensor) -> None:
        """Turn the positives' cosines into losses [B], in place."""
        self._kernels.run(
            "contrastive_finish", loss, sums, self._used(maximum), self.k, self._dtype,
            loss.shape[0],
        )  # fmt: skip

    def weigh(self, weight: Tensor, sums: Tensor, grad_loss: Tensor) -> None:
        """What an exponential of each row and column weighs in the gradient, weight [B + M]."""
        self._kernels.run(
            "contrastive_weigh", weight, sums, grad_loss, self.k, self._dtype, *self._sizes
        )

    def gradient(
        self,
        gradient: Tensor,
        tile: Tensor,
        weight: Tensor,
        maximum: Tensor,
        grad_loss: Tensor,
        duplicates: tuple[Tensor | None, Tensor | None],
        row: int,
        column: int,
        kept: bool,
    ) -> None:
        """Turn tile [R, C], at (row, column), into the gradient of its cosines."""
        self._kernels.run(
            "contrastive_gradient", gradient, tile, weight, self._used(maximum), grad_loss,
            *duplicates, self.k, self._dtype, *_place(tile, row, column), *self._sizes, kept,
        )  # fmt: skip

    def normalise_backward(self, grad: Tensor, unit: Tensor, inverse_norm: Tensor) -> Tensor:
        """Turn the gradient of unit [R, E] into that of x, in place; Σ grad · unit, float64."""
        along = grad.new_empty((), dtype=torch.float64)
        dots = grad.new_empty(grad.shape[0], dtype=torch.float64)
        self._kernels.run(
            "contrastive_normalise_backward", grad, along, dots, unit, inverse_norm, self._dtype,
            *grad.shape, NORM_EPS,
        )  # fmt: skip
        return along

    def _used(self, maximum: Tensor) -> Tensor | None:
        return None if self._bounded else maximum


def _place(tile: Tensor, row: int, column: int) -> tuple[int, int, int, int, int]:
    return row, tile.shape[0], column, tile.shape[1], tile.stride(0)
