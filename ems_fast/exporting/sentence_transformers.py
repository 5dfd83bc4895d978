"""The folder that ``SentenceTransformer(path)`` loads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from ems_fast.encoding.encoder import SentenceEncoder
from ems_fast.exporting.bert import bert_config, bert_state
from ems_fast.exporting.fast_tokenizer import fast_tokenizer
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

_LIBRARY = {"similarity_fn_name": "cosine", "prompts": {}}


def write_sentence_transformers(encoder: SentenceEncoder, folder: Path) -> None:
    """Write weights, configuration and tokenizer; only this library's own dependencies are used.

    A token table becomes a stock `StaticEmbedding`, a model with layers a BERT with mean pooling.
    """
    if encoder.config.is_table:
        _write_static(encoder, folder)
    else:
        _write_bert(encoder, folder)


def _write_static(encoder: SentenceEncoder, folder: Path) -> None:
    tokenizer = fast_tokenizer(encoder.tokenizer, encoder.config.max_tokens)
    modules = "sentence_transformers.models.StaticEmbedding"
    _write_json(
        folder,
        {
            "tokenizer.json": tokenizer,
            "modules.json": [{"idx": 0, "name": "0", "path": "", "type": modules}],
            "config_sentence_transformers.json": _LIBRARY,
        },
    )
    table = encoder.module.tokens.weight.detach().to("cpu", torch.float32).contiguous()
    save_file({"embedding.weight": table}, folder / "model.safetensors")


def _write_json(folder: Path, files: dict[str, Any]) -> None:
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def _write_bert(encoder: SentenceEncoder, folder: Path) -> None:
    config, tokenizer = encoder.config, encoder.tokenizer
    files: dict[str, Any] = {
        "config.json": bert_config(config),
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
        "modules.json": [
            {
                "idx": 0,
                "name": "0",
                "path": "",
                "type": "sentence_transformers.models.Transformer",
            },
            {
                "idx": 1,
                "name": "1",
                "path": "1_Pooling",
                "type": "sentence_transformers.models.Pooling",
            },
        ],
        "sentence_bert_config.json": {
            "max_seq_length": config.max_tokens,
            "do_lower_case": False,  # the tokenizer's rules decide
        },
        "config_sentence_transformers.json": _LIBRARY,
        "1_Pooling/config.json": {
            "word_embedding_dimension": config.width,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    }
    (folder / "1_Pooling").mkdir()
    _write_json(folder, files)
    state = bert_state(encoder.module, config)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
