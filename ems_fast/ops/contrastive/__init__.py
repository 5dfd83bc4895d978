"""The sentence-level contrastive objective."""

from ems_fast.ops.contrastive.loss import contrastive_loss

__all__ = ["contrastive_loss"]
