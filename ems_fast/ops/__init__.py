"""The two objectives as tensor operations, and the implementations behind them."""

from ems_fast.ops.bag_of_words import BagOfWords
from ems_fast.ops.contrastive.loss import contrastive_loss
from ems_fast.ops.table import table_mean
from ems_fast.ops.xtr.loss import xtr_loss

__all__ = ["BagOfWords", "contrastive_loss", "table_mean", "xtr_loss"]
