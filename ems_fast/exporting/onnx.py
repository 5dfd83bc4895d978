"""The encoder as an ONNX graph: token ids in, sentence embeddings out."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ems_fast.encoding.encoder import SentenceEncoder
from ems_fast.errors import InputError
from ems_fast.exporting.fast_tokenizer import fast_tokenizer
from ems_fast.model.encoder import Encoder, Layer
from ems_fast.model.phrases import find_phrases, phrase_keys
from ems_fast.text.tokenizer import PAD_ID

OPSET = 18
USE = """\
```python
import numpy as np
import onnxruntime
import tokenizers

tokenizer = tokenizers.Tokenizer.from_file("tokenizer.json")
tokenizer.enable_padding(pad_id=0)
session = onnxruntime.InferenceSession("model.onnx")

batch = tokenizer.encode_batch(["Good morning!"])
vectors = session.run(
    ["sentence_embedding"],
    {
        "input_ids": np.array([sentence.ids for sentence in batch]),
        "attention_mask": np.array([sentence.attention_mask for sentence in batch]),
    },
)[0]  # float32 [1, {width}]
```"""
INT8_NOTES = [
    "Weights are integers of 8 bits: vectors differ from those of the float32 model, and somewhat "
    "with the sentences of a batch.",
]


class PaddedEncoder(nn.Module):
    """An encoder on padded sentences, in operations that every runtime has."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Ids int64 [B, T] → embeddings [B, D], zero for a sentence without a token.

        The mask int64 [B, T] is 1 for a token and 0 for padding, which is at the end. The second
        result is what others pool, [B, T, D]: its mean over the tokens is the embedding. Of a table
        with phrases a token brings the vector of the phrase that it begins.
        """
        B, T = input_ids.shape
        kept = attention_mask.to(torch.float32)
        bias = ((1.0 - kept) * -1e9)[:, None, None, :]  # (B, 1, 1, T)
        x = self.encoder.tokens(input_ids)
        if self.encoder.layers:
            x = self.encoder.norm(x + self.encoder.positions.weight[1 : T + 1])
        for layer in self.encoder.layers:
            assert isinstance(layer, Layer)
            heads = layer.attention.heads
            qkv = layer.attention.qkv(x).view(B, T, 3, heads, -1).permute(2, 0, 3, 1, 4)
            q, k, v = qkv[0], qkv[1], qkv[2]  # (B, H, T, D/H)
            scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1) + bias
            attended = (scores.softmax(dim=-1) @ v).transpose(1, 2).reshape(B, T, -1)
            x = layer.attention_norm(x + layer.attention.out(attended))
            x = layer.ffn_norm(x + layer.ffn_out(F.silu(layer.ffn_in(x))))
        tokens = kept.sum(dim=1).clamp(min=1.0)  # (B,)
        phrases = self.encoder.phrases
        if phrases is not None:
            # Behind the last token stands padding, which is no part of a phrase.
            following = F.pad(input_ids[:, 1:], (0, 1), value=PAD_ID)
            keys = phrase_keys(input_ids, following, self.encoder.vocab_size)
            place, there = find_phrases(keys, phrases)
            there = there & (F.pad(attention_mask[:, 1:], (0, 1)) > 0)
            found = there.to(torch.float32)
            x = x + self.encoder.tokens(self.encoder.vocab_size + place) * found[:, :, None]
            x = x * (tokens / (tokens + found.sum(dim=1)))[:, None, None]
        return (x * kept[:, :, None]).sum(dim=1) / tokens[:, None], x


def write_onnx(encoder: SentenceEncoder, folder: Path, *, int8: bool = False) -> None:
    """Write ``model.onnx``, ``tokenizer.json`` and ``tokenizer.model``.

    With `int8`, the weights are quantised to 8 bits, and activations as they come.

    Raises:
        InputError: a package of the extra ``export`` is not installed.
    """
    check_packages("to='onnx'", int8=int8)
    path = folder / "model.onnx"
    tokenizer = fast_tokenizer(encoder.tokenizer, encoder.config.max_tokens)
    (folder / "tokenizer.json").write_text(
        json.dumps(tokenizer, ensure_ascii=False), encoding="utf-8"
    )
    (folder / "tokenizer.model").write_bytes(encoder.tokenizer.model)
    write_graph(encoder, path, int8=int8)


def check_packages(option: str, *, int8: bool) -> None:
    """Raise `InputError` unless what writes graphs, or quantises them too, is installed."""
    for package in ("onnx", "onnxscript", *(["onnxruntime"] if int8 else [])):
        try:
            __import__(package)
        except ImportError as error:
            raise InputError(
                f"{option}: needs the package {package}, which is not installed; "
                "pip install 'ems-fast[export]'"
            ) from error


def write_graph(encoder: SentenceEncoder, path: Path, *, int8: bool = False) -> None:
    """Write the graph alone, in float32 or with weights of 8 bits."""
    inner = encoder.as_module()
    device = next(inner.parameters()).device
    module = PaddedEncoder(inner).eval()
    # No size of the example may be 0 or 1, which would be taken for constants.
    T = min(3, encoder.config.max_tokens)
    example = torch.ones(2, T, dtype=torch.int64, device=device)
    batch = torch.export.Dim("batch", min=1)
    tokens = torch.export.Dim("tokens", min=1, max=encoder.config.max_tokens)
    shape = {0: batch, 1: tokens}
    with _quiet():
        program = torch.onnx.export(
            module,
            (example, example.clone()),  # one tensor given twice would be one input
            input_names=["input_ids", "attention_mask"],
            output_names=["sentence_embedding", "last_hidden_state"],
            dynamic_shapes={"input_ids": shape, "attention_mask": shape},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(path, external_data=False)
    if int8:
        _quantise(path)


def _quantise(path: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    whole = path.with_name("float32.onnx")
    path.rename(whole)
    with _quiet():
        quantize_dynamic(whole, path, weight_type=QuantType.QInt8, per_channel=True)
    whole.unlink()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' remarks about themselves."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
