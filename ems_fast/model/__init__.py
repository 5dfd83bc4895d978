"""The model: its sizes, its encoder and the heads that train it.

Only what needs no torch is imported here.
"""

from ems_fast.model.config import PRESETS, ModelConfig, preset

__all__ = ["PRESETS", "ModelConfig", "preset"]
