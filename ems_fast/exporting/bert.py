"""The encoder's weights under the names of BERT.

The encoder is a BERT without segments, with swish, positions counted from 1 and no special tokens.
BERT counts positions from 0, so row 0, that of padding, is left out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ems_fast.model.config import ModelConfig
from ems_fast.model.encoder import LAYER_NORM_EPS, Encoder
from ems_fast.text.tokenizer import PAD_ID


def bert_config(config: ModelConfig) -> dict[str, Any]:
    """The content of ``config.json``."""
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.ffn_width,
        "hidden_act": "silu",
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.dropout,
        "max_position_embeddings": config.max_tokens,
        "type_vocab_size": 1,
        "layer_norm_eps": LAYER_NORM_EPS,
        "pad_token_id": PAD_ID,
        "dtype": "float32",
    }


def bert_state(encoder: Encoder, config: ModelConfig) -> dict[str, Tensor]:
    """The tensors of ``model.safetensors``, float32."""
    state = {
        name: tensor.detach().to("cpu", torch.float32)
        for name, tensor in encoder.state_dict().items()
    }
    width = config.width
    bert = {
        "embeddings.word_embeddings.weight": state["tokens.weight"],
        "embeddings.position_embeddings.weight": state["positions.weight"][1:],
        "embeddings.token_type_embeddings.weight": torch.zeros(1, width),
        "embeddings.LayerNorm.weight": state["norm.weight"],
        "embeddings.LayerNorm.bias": state["norm.bias"],
        # Not used for sentence embeddings; without it, loading warns of weights made up at random.
        "pooler.dense.weight": torch.zeros(width, width),
        "pooler.dense.bias": torch.zeros(width),
    }
    names = {
        "attention.out": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "ffn_in": "intermediate.dense",
        "ffn_out": "output.dense",
        "ffn_norm": "output.LayerNorm",
    }
    for layer in range(config.layers):
        ours, theirs = f"layers.{layer}", f"encoder.layer.{layer}"
        for kind in ("weight", "bias"):
            qkv = state[f"{ours}.attention.qkv.{kind}"].chunk(3)
            for part, tensor in zip(("query", "key", "value"), qkv, strict=True):
                bert[f"{theirs}.attention.self.{part}.{kind}"] = tensor
            for name, bert_name in names.items():
                bert[f"{theirs}.{bert_name}.{kind}"] = state[f"{ours}.{name}.{kind}"]
    # Parts of one tensor share their memory, which a file of tensors must not.
    return {name: tensor.clone() for name, tensor in bert.items()}
