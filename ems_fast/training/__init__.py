"""Training: from files or a prepared corpus to a run's folder."""

from ems_fast.training.api import TrainResult, train
from ems_fast.training.options import TrainOptions, split_options

__all__ = ["TrainOptions", "TrainResult", "split_options", "train"]
