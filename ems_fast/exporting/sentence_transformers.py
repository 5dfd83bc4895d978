"""The folder that ``SentenceTransformer(path)`` loads.

The encoder is a BERT without segments, with swish, positions counted from 1 and no special tokens.
BERT counts positions from 0, so row 0, that of padding, is left out.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from ems_fast.encoding.encoder import SentenceEncoder
from ems_fast.errors import InputError
from ems_fast.exporting.fast_tokenizer import fast_tokenizer
from ems_fast.model.config import ModelConfig
from ems_fast.model.encoder import LAYER_NORM_EPS, Encoder
from ems_fast.text.tokenizer import PAD_ID, UNK_ID

USE = """\
```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("PATH_OF_THIS_FOLDER")
vectors = model.encode(["Good morning!"], normalize_embeddings=True)  # float32 [1, {width}]
```"""
NOTES = [
    "sentence-transformers fails on a batch in which every sentence is empty; beside others, an "
    "empty one gets the zero vector.",
]


def write_sentence_transformers(encoder: SentenceEncoder, folder: Path) -> None:
    """Write weights, configuration and tokenizer; only this library's own dependencies are used.

    A token table becomes a stock `StaticEmbedding`, a model with layers a BERT with mean pooling.

    Raises:
        InputError: the model has phrases, which no module of that library knows.
    """
    if encoder.config.phrases:
        raise InputError(
            f"to: got 'sentence-transformers' for a model of {encoder.config.phrases} phrases, "
            "which that library cannot express; export it to 'onnx', or train one with phrases=0"
        )
    files, state = _static(encoder) if encoder.config.is_table else _bert(encoder)
    files["config_sentence_transformers.json"] = {"similarity_fn_name": "cosine", "prompts": {}}
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    # In bytes: safetensors makes files that only their owner may read.
    (folder / "model.safetensors").write_bytes(save(state, metadata={"format": "pt"}))


def _static(encoder: SentenceEncoder) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The files, by name, and the tensors."""
    files = {
        "tokenizer.json": fast_tokenizer(encoder.tokenizer, encoder.config.max_tokens),
        "modules.json": _modules(StaticEmbedding=""),
    }
    table = encoder.module.tokens.weight.detach().to("cpu", torch.float32).contiguous()
    return files, {"embedding.weight": table}


def _bert(encoder: SentenceEncoder) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The files, by name, and the tensors."""
    config, tokenizer = encoder.config, encoder.tokenizer
    files: dict[str, Any] = {
        "config.json": _bert_config(config),
        "tokenizer.json": fast_tokenizer(tokenizer),
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": config.max_tokens,
            "pad_token": tokenizer.piece(PAD_ID),
            "unk_token": tokenizer.piece(UNK_ID),
            "padding_side": "right",
            "truncation_side": "right",
            # A sentence that holds the words <pad> or <unk> means those words.
            "split_special_tokens": True,
            "clean_up_tokenization_spaces": False,
            "model_input_names": ["input_ids", "attention_mask"],
        },
        "modules.json": _modules(Transformer="", Pooling="1_Pooling"),
        "sentence_bert_config.json": {
            "max_seq_length": config.max_tokens,
            "do_lower_case": False,  # the tokenizer's rules decide
        },
        "1_Pooling/config.json": {
            "word_embedding_dimension": config.width,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    }
    return files, _bert_state(encoder.module, config)


def _bert_config(config: ModelConfig) -> dict[str, Any]:
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


def _bert_state(encoder: Encoder, config: ModelConfig) -> dict[str, Tensor]:
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


def _modules(**paths: str) -> list[dict[str, Any]]:
    """The content of ``modules.json``: modules of the library and where their files are."""
    return [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{module}"}
        for i, (module, path) in enumerate(paths.items())
    ]
