"""Reduction of per-row losses, the same for every objective and implementation."""

from __future__ import annotations

from torch import Tensor

from ems_fast.ops.impl import Reduction


def reduce_rows(loss: Tensor, reduction: Reduction) -> Tensor:
    """Reduce loss [B]; the mean of no rows is 0, so that an empty batch trains on nothing."""
    if reduction == "none":
        return loss
    total = loss.sum()
    return total if reduction == "sum" else total / max(loss.shape[0], 1)
