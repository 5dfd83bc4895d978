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
# Of a table with phrases: by a class of ours, or by ONNX Runtime and stock modules.
USE_OWN = """\
```python
from sentence_transformers import SentenceTransformer  # and ems-fast installed

model = SentenceTransformer("PATH_OF_THIS_FOLDER", trust_remote_code=True)
vectors = model.encode(["Good morning!"], normalize_embeddings=True)  # float32 [1, {width}]
```"""
USE_ONNX = """\
```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("PATH_OF_THIS_FOLDER", backend="onnx")
vectors = model.encode(["Good morning!"], normalize_embeddings=True)  # float32 [1, {width}]
```"""
NOTES = [
    "sentence-transformers fails on a batch in which every sentence is empty; beside others, an "
    "empty one gets the zero vector.",
]
# The folder of a table's module, beside which a graph and its files may lie: model2vec would take
# weights and ``config.json`` in one folder for its own.
_STATIC = "0_StaticEmbedding"
_THEIRS = "sentence_transformers.models."
_OWN_MODULE = "ems_fast.exporting.table_module.TokenTableModule"


def write_sentence_transformers(encoder: SentenceEncoder, folder: Path, below: str = "") -> None:
    """Write weights, configuration and tokenizer; only this library's own dependencies are used.

    A token table becomes a stock `StaticEmbedding`, a model with layers a BERT with mean pooling.
    The first module's files, the weights among them, go into the folder's subfolder `below`, so
    that there is room for another form of the model.

    It has no phrases: no module of that library knows them.
    """
    modules, state = _static(encoder) if encoder.config.is_table else _bert(encoder)
    first = below or (_STATIC if encoder.config.is_table else "")
    paths = {name: f"{i}_{name}" if i else first for i, name in enumerate(modules)}
    files = _description(folder, {_THEIRS + name: path for name, path in paths.items()})
    for module, own in modules.items():
        files |= {folder / paths[module] / name: content for name, content in own.items()}
    _write_json(files)
    # In bytes: safetensors makes files that only their owner may read.
    (folder / first / "model.safetensors").write_bytes(save(state, metadata={"format": "pt"}))


def add_own_module(folder: Path) -> None:
    """To the files that `ems_fast.load` reads, add those that name our class for them."""
    _write_json(_description(folder, {_OWN_MODULE: ""}))


def write_onnx_alone(encoder: SentenceEncoder, folder: Path, *, int8: bool) -> None:
    """Write a token table, phrases too, as a graph that stock modules run and pool.

    With `int8` its weights are quantised to 8 bits.

    Raises:
        InputError: a package of the extra ``export`` is not installed.
    """
    add_onnx(encoder, folder, int8=int8)
    modules = {"Transformer": "", "Pooling": "1_Pooling"}
    # That library reads no configuration without a type, and nothing more depends on it.
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    _write_json(
        {
            **_description(folder, {_THEIRS + name: path for name, path in modules.items()}),
            folder / "config.json": {**described, "model_type": "bert", "num_hidden_layers": 0},
            folder / "sentence_bert_config.json": _limit(encoder.config),
            folder / "1_Pooling" / "config.json": _pooling(encoder.config),
        }
    )


def add_onnx(encoder: SentenceEncoder, folder: Path, *, int8: bool = False) -> None:
    """Add the graph of a token table, and the files that describe it to others.

    Raises:
        InputError: a package of the extra ``export`` is not installed.
    """
    check_packages("with_onnx", int8=int8)
    config, tokenizer = encoder.config, encoder.tokenizer
    (folder / "onnx").mkdir()
    write_graph(encoder, folder / "onnx" / "model.onnx", int8=int8)
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
        "sentence_bert_config.json": _limit(config),
    }
    modules = {"Transformer": transformer, "Pooling": {"config.json": _pooling(config)}}
    return modules, _bert_state(encoder.module, config)


def _limit(config: ModelConfig) -> dict[str, Any]:
    """The content of ``sentence_bert_config.json``."""
    return {
        "max_seq_length": config.max_tokens,
        "do_lower_case": False,  # the tokenizer's rules decide
    }


def _pooling(config: ModelConfig) -> dict[str, Any]:
    """The content of the pooling module's ``config.json``: the mean."""
    return {
        "word_embedding_dimension": config.width,
        "pooling_mode_cls_token": False,
        "pooling_mode_mean_tokens": True,
        "pooling_mode_max_tokens": False,
        "pooling_mode_mean_sqrt_len_tokens": False,
    }


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


def _description(folder: Path, modules: dict[str, str]) -> dict[Path, Any]:
    """The files that name a model's modules: of each class, the path of its files."""
    named = [
        {"idx": i, "name": str(i), "path": path, "type": kind}
        for i, (kind, path) in enumerate(modules.items())
    ]
    settings = {"similarity_fn_name": "cosine", "prompts": {}}
    return {
        folder / "modules.json": named,
        folder / "config_sentence_transformers.json": settings,
    }
