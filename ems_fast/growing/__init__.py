"""Grow a model: pairs mined from text that is not parallel, and training on them, in rounds."""

from ems_fast.growing.api import GrowResult, grow
from ems_fast.growing.rounds import Round

__all__ = ["GrowResult", "Round", "grow"]
