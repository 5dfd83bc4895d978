"""The names of the authors' released checkpoint, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

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


def state_from_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The released checkpoint's tensors under this library's names.

    Args:
        state: their ``state_dict``; a ``module.`` prefix and the older names of the head are known.

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
