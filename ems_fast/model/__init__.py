"""The model: its sizes, its encoder and the heads that train it."""

from ems_fast.model.config import PRESETS, ModelConfig, preset
from ems_fast.model.ems import EMSModel
from ems_fast.model.encoder import Encoder

__all__ = ["PRESETS", "EMSModel", "Encoder", "ModelConfig", "preset"]
