"""Load the authors' released checkpoint: its names and ours, and sizes from its shapes."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ems_fast.distributed.ranks import resolve_device
from ems_fast.encoding.encoder import Preprocessing, SentenceEncoder
from ems_fast.encoding.load import module_of
from ems_fast.encoding.released.text import preprocess_released
from ems_fast.errors import InputError, check
from ems_fast.model.config import ModelConfig
from ems_fast.text.tokenizer import Tokenizer

# The released tokenizer has pad, unk and <MASK>, then a symbol <2xx> for each language.
_FIRST_LANGUAGE = 3
_NAME = re.compile(r"(?:module\.)?(?:model\.bert\.encoder\.layer\.(\d+)\.)?(.+)\.(weight|bias)")
# Their name → ours, of modules within a layer and of others. Query, key and value are one here.
_LAYER = {
    "attention.output.dense": "attention.out",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "ffn_in",
    "output.dense": "ffn_out",
    "output.LayerNorm": "ffn_norm",
}
_OTHER = {
    "model.bert.embedding.word_embedding.embedding": "encoder.tokens",
    "model.bert.embedding.position_embedding.position_embeddings": "encoder.positions",
    "model.bert.embedding.layer_norm": "encoder.norm",
    "model.la_tag_linear.embedding": "xtr_head.languages",
    "model.la_tag_linear.layer_norm": "xtr_head.language_norm",
    "model.transform.dense": "xtr_head.dense",
    "model.transform.LayerNorm": "xtr_head.norm",
    "model.decoder.transform.dense": "xtr_head.dense",
    "model.decoder.transform.LayerNorm": "xtr_head.norm",
    "alignproj.0": "contrastive_head.inner",
    "alignproj.3": "contrastive_head.outer",
}
_QKV = [f"attention.self_attention.{part}" for part in ("query", "key", "value")]


def load_released(
    checkpoint: str | Path,
    tokenizer: str | Path,
    *,
    preprocessing: Literal["released"] | Preprocessing | None = "released",
    heads: int = 16,
    device: str | torch.device | None = None,
) -> SentenceEncoder:
    """Load the checkpoint that the authors of EMS released, or another of that format.

    Args:
        checkpoint: the ``.pt`` file; no code in it is run.
        tokenizer: its SentencePiece model.
        preprocessing: ``"released"`` lower-cases and splits with the authors' tools (extra
            ``released``) and makes ``encode`` need the sentences' ``language``; a function takes
            the sentences and that language and returns the text to encode; None takes sentences
            as they are, which is right if they are split and lower-cased already.
        heads: attention heads, the one size that the weights do not tell.
        device: where to compute; None takes a GPU if there is one.

    Raises:
        InputError: a file cannot be read, is of another format, or they do not fit each other.
    """
    known = preprocessing is None or preprocessing == "released" or callable(preprocessing)
    check(known, "preprocessing", preprocessing, "'released', a function or None")
    path = Path(checkpoint)
    pieces = Tokenizer.from_file(tokenizer)
    state = _read_state(path)
    config = _infer_config(path, state, pieces, heads)
    encoder = module_of(config, state, f"{path}: is not a whole EMS checkpoint")
    chosen = preprocess_released if preprocessing == "released" else preprocessing
    return SentenceEncoder(encoder, pieces, config, resolve_device(device), preprocessing=chosen)


def _read_state(path: Path) -> dict[str, Tensor]:
    """The checkpoint's tensors under this library's names."""
    try:
        # Mapped, the optimiser's state is never read.
        mapped = zipfile.is_zipfile(path)
        with torch.serialization.safe_globals(_numpy_scalars()):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped or None)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except Exception as error:
        reason = str(error).split("\n", 1)[0]
        raise InputError(f"{path}: is not a checkpoint of tensors ({reason})") from error
    state = content.get("state_dict") if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(
            f"{path}: has no 'state_dict' of tensors; give the file that the authors released"
        )
    try:
        return state_from_released(state)
    except KeyError as error:
        raise InputError(
            f"{path}: the names of its tensors are not those of a released EMS checkpoint "
            f"({error.args[0]})"
        ) from error


def state_from_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of the released ``state_dict`` under this library's names.

    A ``module.`` prefix and the older names of the head are known.

    Raises:
        KeyError: a name that is none of theirs.
    """
    renamed: dict[str, Tensor] = {}
    attention: dict[str, dict[str, Tensor]] = {}
    for name, tensor in state.items():
        match = _NAME.fullmatch(name)
        layer, theirs, kind = match.groups() if match else (None, "", "")
        if layer is not None and theirs in _QKV:
            joint = f"encoder.layers.{layer}.attention.qkv.{kind}"
            attention.setdefault(joint, {})[theirs] = tensor
        elif layer is not None and theirs in _LAYER:
            renamed[f"encoder.layers.{layer}.{_LAYER[theirs]}.{kind}"] = tensor
        elif layer is None and theirs in _OTHER:
            renamed[f"{_OTHER[theirs]}.{kind}"] = tensor
        elif theirs == "model.decoder.decoder":
            renamed["output"] = tensor
        else:
            raise KeyError(name)
    for joint, parts in attention.items():
        renamed[joint] = torch.cat([parts[theirs] for theirs in _QKV])
    return renamed


def _numpy_scalars() -> list[Any]:
    """What a pickled NumPy number is made of: losses beside the weights may be such."""
    import _codecs

    scalar = np.float64(0).__reduce__()[0]
    return [
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        type(np.dtype(np.float64)),
        type(np.dtype(np.float32)),
        _codecs.encode,
    ]


def _infer_config(
    path: Path, state: Mapping[str, Tensor], tokenizer: Tokenizer, heads: int
) -> ModelConfig:
    """Sizes from the weights' shapes, languages from the tokenizer's symbols."""
    try:
        vocab_size, width = state["encoder.tokens.weight"].shape
        num_languages, language_width = state["xtr_head.languages.weight"].shape
        max_tokens = state["encoder.positions.weight"].shape[0] - 1
        ffn_width = state["encoder.layers.0.ffn_in.weight"].shape[0]
        head_width = state["xtr_head.dense.weight"].shape[0]
        projection_width = state["contrastive_head.outer.weight"].shape[0]
    except KeyError as error:
        raise InputError(
            f"{path}: lacks the weights that are {error.args[0]} here; is the file whole?"
        ) from error
    if tokenizer.vocab_size != vocab_size:
        raise InputError(
            f"tokenizer: has {tokenizer.vocab_size} pieces, but {path} was made for {vocab_size}"
        )
    layers = {name.split(".")[2] for name in state if name.startswith("encoder.layers.")}
    symbols = map(tokenizer.piece, range(_FIRST_LANGUAGE, _FIRST_LANGUAGE + num_languages))
    languages = tuple(s[2:-1] for s in symbols if s.startswith("<2") and s.endswith(">"))
    return ModelConfig(
        vocab_size=vocab_size,
        languages=languages if len(languages) == num_languages else (),
        layers=len(layers),
        width=width,
        heads=heads,
        ffn_width=ffn_width,
        language_width=language_width,
        projection_width=projection_width,
        max_tokens=max_tokens,
        tied=head_width == width,
    )
