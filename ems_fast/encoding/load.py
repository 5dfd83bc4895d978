"""Load a trained encoder: a run's, an exported one, a shipped one, or one from a hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ems_fast.encoding.encoder import CPU, Dtype, SentenceEncoder, default_dtype, resolve_dtype
from ems_fast.encoding.hub import download, on_hub
from ems_fast.encoding.released.text import preprocess_released
from ems_fast.encoding.shipped import folder_of
from ems_fast.errors import InputError
from ems_fast.model.config import ModelConfig
from ems_fast.model.token_table import TokenTable
from ems_fast.runs.folder import RunFolder

# A token table is loaded where there is no torch: what needs it imports it itself.
if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ems_fast.model.encoder import Encoder


def load(
    run: str | Path | None = None,
    *,
    device: str | torch.device | None = None,
    dtype: Dtype | None = None,
    endpoint: str | None = None,
) -> SentenceEncoder:
    """The encoder of a run, a model that came with the installation, or one on a hub.

    Nothing is downloaded unless the name begins with ``hf:``.

    Args:
        run: the run's folder, or the name of a model that is shipped; None takes the shipped
            ``"multilingual"``. ``"hf:org/name"``, or ``"hf:org/name@revision"``, is downloaded once
            (extra ``hub``) and kept where ``huggingface_hub`` keeps things.
        device: where to compute; None takes a GPU if there is one, but for a model without
            layers, which needs none, the CPU.
        dtype: what to compute in. ``"bfloat16"`` is twice as fast on processors that multiply it
            natively (`ems-fast doctor` says so) and slower on others; ``"float16"`` is for GPUs.
            By default ``"bfloat16"`` for a model with layers on a GPU that has instructions for
            it, else ``"float32"``. Vectors are float32 in any case.
        endpoint: the hub's address; None takes ``HF_ENDPOINT``, else the public one.

    Raises:
        InputError: no such folder or name, no model in it, files that are damaged or do not fit
            each other; the device does not exist here, or the dtype does not go with it; the hub
            cannot be reached, or `endpoint` is given for what is on none.
    """
    if endpoint is not None and not on_hub(run):
        raise InputError(f"endpoint: got {endpoint!r}, but {run!r} is not on a hub (hf:org/name)")
    opened = None
    if on_hub(run):
        folder, document, opened = download(str(run), endpoint)
    else:
        folder = RunFolder(folder_of(run))
        document = folder.read_config()
    config = folder.model_config(document)
    table_alone = config.is_table and str(device or "cpu") in CPU
    as_stored = table_alone and dtype in (None, "float32")
    if not as_stored:
        from ems_fast.distributed.ranks import resolve_device

        resolved_device = resolve_device("cpu" if table_alone else device)
        resolved_dtype = (
            default_dtype(config, resolved_device)
            if dtype is None
            else resolve_dtype(dtype, resolved_device)
        )
    tokenizer, weights = opened or folder.open_model(document)
    if tokenizer.vocab_size != config.vocab_size:
        raise InputError(
            f"{folder.tokenizer}: has {tokenizer.vocab_size} pieces, but the model was made for "
            f"{config.vocab_size}"
        )
    released = document.get("text", {}).get("preprocessing") == "released"
    chosen = preprocess_released if released else None
    complaint = f"{folder.weights}: does not fit config.toml"
    if as_stored:
        try:
            table = TokenTable.of_file(weights, config)
        except ValueError as error:
            raise InputError(f"{complaint} ({error})") from error
        return SentenceEncoder(table, tokenizer, config, preprocessing=chosen)
    encoder = module_of(config, folder.read_weights(), complaint)
    return SentenceEncoder(encoder, tokenizer, config, resolved_device, resolved_dtype, chosen)


def module_of(config: ModelConfig, weights: Mapping[str, Tensor], complaint: str) -> Encoder:
    """The module of those weights whose names begin with ``encoder.``.

    Raises:
        InputError: with `complaint`, if they are not those of `config`.
    """
    from ems_fast.model.encoder import Encoder

    prefix = "encoder."
    own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    try:
        return Encoder.of_state(config, own)
    except RuntimeError as error:
        raise InputError(f"{complaint} ({' '.join(str(error).split())})") from error
