"""The names of the authors' released checkpoint, and ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

# Their name (a regular expression) → ours. Query, key and value are one matrix here.
_NAMES = (
    (r"model\.bert\.embedding\.word_embedding\.embedding\.weight", r"encoder.tokens.weight"),
    (
        r"model\.bert\.embedding\.position_embedding\.position_embeddings\.weight",
        r"encoder.positions.weight",
    ),
    (r"model\.bert\.embedding\.layer_norm\.(weight|bias)", r"encoder.norm.\1"),
    (
        r"model\.bert\.encoder\.layer\.(\d+)\.attention\.output\.dense\.(weight|bias)",
        r"encoder.layers.\1.attention.out.\2",
    ),
    (
        r"model\.bert\.encoder\.layer\.(\d+)\.attention\.output\.LayerNorm\.(weight|bias)",
        r"encoder.layers.\1.attention_norm.\2",
    ),
    (
        r"model\.bert\.encoder\.layer\.(\d+)\.intermediate\.dense\.(weight|bias)",
        r"encoder.layers.\1.ffn_in.\2",
    ),
    (
        r"model\.bert\.encoder\.layer\.(\d+)\.output\.dense\.(weight|bias)",
        r"encoder.layers.\1.ffn_out.\2",
    ),
    (
        r"model\.bert\.encoder\.layer\.(\d+)\.output\.LayerNorm\.(weight|bias)",
        r"encoder.layers.\1.ffn_norm.\2",
    ),
    (r"model\.la_tag_linear\.embedding\.weight", r"xtr_head.languages.weight"),
    (r"model\.la_tag_linear\.layer_norm\.(weight|bias)", r"xtr_head.language_norm.\1"),
    (r"model\.(?:decoder\.)?transform\.dense\.(weight|bias)", r"xtr_head.dense.\1"),
    (r"model\.(?:decoder\.)?transform\.LayerNorm\.(weight|bias)", r"xtr_head.norm.\1"),
    (r"model\.decoder\.decoder\.weight", r"output"),
    (r"alignproj\.0\.(weight|bias)", r"contrastive_head.inner.\1"),
    (r"alignproj\.3\.(weight|bias)", r"contrastive_head.outer.\1"),
)
_QKV = re.compile(
    r"model\.bert\.encoder\.layer\.(\d+)\.attention\.self_attention"
    r"\.(query|key|value)\.(weight|bias)"
)


def state_from_released(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The released checkpoint's tensors under this library's names.

    Args:
        state: their ``state_dict``; a ``module.`` prefix and the older names of the head are known.

    Raises:
        KeyError: a name that is none of theirs.
    """
    renamed: dict[str, Tensor] = {}
    attention: dict[tuple[str, str], dict[str, Tensor]] = {}
    for name, tensor in state.items():
        name = name.removeprefix("module.")
        if match := _QKV.fullmatch(name):
            layer, part, kind = match.groups()
            attention.setdefault((layer, kind), {})[part] = tensor
            continue
        for theirs, ours in _NAMES:
            if re.fullmatch(theirs, name):
                renamed[re.sub(theirs, ours, name)] = tensor
                break
        else:
            raise KeyError(name)
    for (layer, kind), parts in attention.items():
        renamed[f"encoder.layers.{layer}.attention.qkv.{kind}"] = torch.cat(
            [parts["query"], parts["key"], parts["value"]]
        )
    return renamed
