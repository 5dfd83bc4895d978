"""Reduction of per-row losses, the same for every objective and implementation."""

from __future__ import annotations

from torch import Tensor

from ems_fast.ops.impl import Reduction


def reduce_rows(loss: Tensor, reduction: Reduction) -> Tensor:
    """Reduce loss [B]; the mean of no rows is 0, so that an empty batch trains on nothing."""
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" or loss.shape[0] == 0 else loss.mean()
