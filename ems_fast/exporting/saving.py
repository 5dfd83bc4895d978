"""An encoder as a folder that `ems_fast.load` reads."""

from __future__ import annotations

from pathlib import Path

from ems_fast.encoding.encoder import SentenceEncoder
from ems_fast.encoding.released.text import preprocess_released
from ems_fast.errors import InputError
from ems_fast.model.quantisation import quantise
from ems_fast.runs.folder import RunFolder, model_section


def write_model(encoder: SentenceEncoder, path: Path, *, int8: bool = False) -> None:
    """Write ``config.toml``, ``tokenizer.model`` and ``model.safetensors``, the encoder only.

    With `int8` the table of token vectors is written in 8 bits.

    Raises:
        InputError: the encoder's preprocessing is a function of the caller's, which no file holds.
    """
    sections = {"model": model_section(encoder.config)}
    if encoder.preprocessing is not None:
        if encoder.preprocessing is not preprocess_released:
            raise InputError(
                "encoder: its preprocessing is a function, which cannot be saved; load it with "
                "preprocessing=None, and apply the function before encoding"
            )
        sections["text"] = {"preprocessing": "released"}
    folder = RunFolder(path)
    weights = {f"encoder.{k}": v for k, v in encoder.module.state_dict().items()}
    folder.tokenizer.write_bytes(encoder.tokenizer.model)
    folder.write_weights(quantise(weights) if int8 else weights)
    folder.write_config({**sections, "files": folder.digests()})
