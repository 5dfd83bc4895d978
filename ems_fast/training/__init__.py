"""Training: from files or a prepared corpus to a run's folder."""

from ems_fast.training.api import TrainResult, train
from ems_fast.training.certificate import Certificate, Kept
from ems_fast.training.extend import ExtendResult, extend
from ems_fast.training.options import TrainOptions, split_options
from ems_fast.training.planning import Plan, plan
from ems_fast.training.trackers import Tracker

__all__ = [
    "Certificate", "ExtendResult", "Kept", "Plan", "Tracker", "TrainOptions", "TrainResult",
    "extend", "plan", "split_options", "train",
]  # fmt: skip
