"""Cross-lingual token-level reconstruction (XTR)."""

from ems_fast.ops.xtr.loss import xtr_loss

__all__ = ["xtr_loss"]
