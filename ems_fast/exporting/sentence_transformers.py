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
from ems_fast.exporting.onnx import check_packages, write_graph
from ems_fast.model.config import ModelConfig
from ems_fast.model.encoder import LAYER_NORM_EPS, Encoder
from ems_fast.text.tokenizer import PAD_ID, UNK_ID, Tokenizer

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
# The folder of a table's module, beside which a graph and its files may lie: model2vec would take
# weights and ``config.json`` in one folder for its own.
_STATIC = "0_StaticEmbedding"


def write_sentence_transformers(encoder: SentenceEncoder, folder: Path, below: str = "") -> None:
    """Write weights, configuration and tokenizer; only this library's own dependencies are used.

    A token table becomes a stock `StaticEmbedding`, a model with layers a BERT with mean pooling.
    The first module's files, the weights among them, go into the folder's subfolder `below`, so
    that there is room for another form of the model.

    Raises:
        InputError: the model has phrases, which no module of that library knows.
    """
    if encoder.config.phrases:
        raise InputError(
            f"to: got 'sentence-transformers' for a model of {encoder.config.phrases} phrases, "
            "which that library cannot express; export it to 'onnx', or train one with phrases=0"
        )
    modules, state = _static(encoder) if encoder.config.is_table else _bert(encoder)
    first = below or (_STATIC if encoder.config.is_table else "")
    paths = {name: f"{i}_{name}" if i else first for i, name in enumerate(modules)}
    files: dict[Path, Any] = {
        folder / "modules.json": _modules(paths),
        folder / "config_sentence_transformers.json": {
            "similarity_fn_name": "cosine", "prompts": {}
        },
    }  # fmt: skip
    for module, own in modules.items():
        files |= {folder / paths[module] / name: content for name, content in own.items()}
    _write_json(files)
    # In bytes: safetensors makes files that only their owner may read.
    (folder / first / "model.safetensors").write_bytes(save(state, metadata={"format": "pt"}))


def add_onnx(encoder: SentenceEncoder, folder: Path) -> None:
    """Add the graph of a token table, and the files that describe it to others.

    Raises:
        InputError: a package of the extra ``export`` is not installed.
    """
    check_packages("with_onnx")
    config, tokenizer = encoder.config, encoder.tokenizer
    (folder / "onnx").mkdir()
    write_graph(encoder, folder / "onnx" / "model.onnx")
    _write_json(
        {
            folder / "config.json": {
                "architectures": ["StaticEmbedding"],
                "vocab_size": config.vocab_size,
                "hidden_size": config.width,
                "max_position_embeddings": config.max_tokens,
                "pad_token_id": PAD_ID,
                "dtype": "float32",
            },
            folder / "tokenizer.json": fast_tokenizer(tokenizer, config.max_tokens),
            folder / "tokenizer_config.json": _tokenizer_config(config, tokenizer),
            # None is special: the names of pad and unk in a text are text.
            folder / "special_tokens_map.json": {},
        },
    )


def _write_json(files: dict[Path, Any]) -> None:
    for path, content in files.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _tokenizer_config(config: ModelConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """The content of ``tokenizer_config.json``."""
    return {
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
    }


# The files of each module by name, and the tensors of the first one.
_Modules = tuple[dict[str, dict[str, Any]], dict[str, Tensor]]


def _static(encoder: SentenceEncoder) -> _Modules:
    tokenizer = fast_tokenizer(encoder.tokenizer, encoder.config.max_tokens)
    table = encoder.as_module().tokens.weight.detach().to("cpu", torch.float32).contiguous()
    return {"StaticEmbedding": {"tokenizer.json": tokenizer}}, {"embedding.weight": table}


def _bert(encoder: SentenceEncoder) -> _Modules:
    config, tokenizer = encoder.config, encoder.tokenizer
    transformer: dict[str, Any] = {
        "config.json": _bert_config(config),
        "tokenizer.json": fast_tokenizer(tokenizer),
        "tokenizer_config.json": _tokenizer_config(config, tokenizer),
        "sentence_bert_config.json": {
            "max_seq_length": config.max_tokens,
            "do_lower_case": False,  # the tokenizer's rules decide
        },
    }
    pooling = {
        "word_embedding_dimension": config.width,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }
    modules = {"Transformer": transformer, "Pooling": {"config.json": pooling}}
    return modules, _bert_state(encoder.module, config)


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


def _modules(paths: dict[str, str]) -> list[dict[str, Any]]:
    """The content of ``modules.json``: modules of the library and where their files are."""
    return [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{module}"}
        for i, (module, path) in enumerate(paths.items())
    ]
