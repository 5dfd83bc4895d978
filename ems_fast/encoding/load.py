"""Load a trained encoder: a run's, an exported one, or one that came with the installation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ems_fast.distributed.ranks import resolve_device
from ems_fast.encoding.encoder import Dtype, SentenceEncoder, default_dtype, resolve_dtype
from ems_fast.encoding.released.text import preprocess_released
from ems_fast.encoding.shipped import folder_of
from ems_fast.errors import InputError
from ems_fast.model.config import ModelConfig
from ems_fast.model.encoder import Encoder
from ems_fast.runs.folder import RunFolder


def load(
    run: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: Dtype | None = None,
) -> SentenceEncoder:
    """The encoder of a run, or a model that came with the installation. Nothing is downloaded.

    Args:
        run: the run's folder, or the name of a model that is shipped; None takes the shipped
            ``"multilingual"``.
        device: where to compute; None takes a GPU if there is one.
        dtype: what to compute in. ``"bfloat16"`` is twice as fast on processors that multiply it
            natively (`ems-fast doctor` says so) and slower on others; ``"float16"`` is for GPUs.
            By default ``"bfloat16"`` for a model with layers on a GPU that has instructions for
            it, else ``"float32"``. Vectors are float32 in any case.

    Raises:
        InputError: no such folder or name, no model in it, files that are damaged or do not fit
            each other; the device does not exist here, or the dtype does not go with it.
    """
    resolved_device = resolve_device(device)
    resolved_dtype = None if dtype is None else resolve_dtype(dtype, resolved_device)
    folder = RunFolder(folder_of(run))
    folder.check_files()
    config = folder.read_model_config()
    tokenizer = folder.read_tokenizer()
    if tokenizer.vocab_size != config.vocab_size:
        raise InputError(
            f"{folder.tokenizer}: has {tokenizer.vocab_size} pieces, but the model was made for "
            f"{config.vocab_size}"
        )
    weights = folder.read_weights()
    encoder = module_of(config, weights, f"{folder.weights}: does not fit config.toml")
    if resolved_dtype is None:
        resolved_dtype = default_dtype(config, resolved_device)
    released = folder.read_config().get("text", {}).get("preprocessing") == "released"
    chosen = preprocess_released if released else None
    return SentenceEncoder(encoder, tokenizer, config, resolved_device, resolved_dtype, chosen)


def module_of(config: ModelConfig, weights: Mapping[str, Tensor], complaint: str) -> Encoder:
    """The module of those weights whose names begin with ``encoder.``.

    Raises:
        InputError: with `complaint`, if they are not those of `config`.
    """
    prefix = "encoder."
    own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    encoder = Encoder(config)
    try:
        encoder.load_state_dict(own)
    except RuntimeError as error:
        raise InputError(f"{complaint} ({' '.join(str(error).split())})") from error
    return encoder
