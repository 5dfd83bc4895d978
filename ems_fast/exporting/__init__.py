"""Models for other libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

from ems_fast.encoding.encoder import SentenceEncoder
from ems_fast.encoding.load import load
from ems_fast.encoding.released.text import preprocess_released
from ems_fast.errors import InputError, check_one_of
from ems_fast.exporting import onnx, sentence_transformers
from ems_fast.files.staging import staged_folder
from ems_fast.model.quantisation import quantise
from ems_fast.runs.card import UNKNOWN_LICENCE, model_card, write_card
from ems_fast.runs.folder import RunFolder, model_section

_RELEASED_NOTE = (
    "It was trained on text that is lower-cased and split by a tool for its language; only the "
    "ems-fast form does that by itself, and needs `encode(sentences, language=...)`."
)
Target = Literal["sentence-transformers", "onnx", "ems-fast"]


def export(
    encoder: SentenceEncoder | str | Path,
    folder: str | Path,
    *,
    to: Target,
    int8: bool = False,
    licence: str = UNKNOWN_LICENCE,
) -> Path:
    """Write an encoder in the form of another library, with its tokenizer and a model card.

    Args:
        encoder: an encoder, or the folder of a run; of a run, the card tells data and scores.
        folder: where to write; new or empty.
        to: ``"sentence-transformers"``, for ``SentenceTransformer(folder)``: a stock BERT with mean
            pooling, or of a token table a stock `StaticEmbedding`, if it has no phrases;
            ``"onnx"``, a graph from ``input_ids`` and ``attention_mask`` int64 [B, T] to
            ``sentence_embedding`` float32 [B, D], with a ``tokenizer.json`` (extra ``export``); or
            ``"ems-fast"``, what `ems_fast.load` reads, without what training needs.
        int8: quantise the weights of an ONNX graph to 8 bits, of ``"ems-fast"`` the table of token
            vectors.
        licence: of the model, for the card.

    Returns:
        The folder.

    Raises:
        InputError: `folder` is in use, no such form, a package is missing, or the tokenizer or the
            model's phrases cannot be expressed there.
    """
    check_one_of("to", to, get_args(Target))
    if int8 and to == "sentence-transformers":
        raise InputError(f"int8: got True with to={to!r}, which is written in float32")
    run = None if isinstance(encoder, SentenceEncoder) else RunFolder(encoder)
    model = encoder if isinstance(encoder, SentenceEncoder) else load(encoder, device="cpu")
    notes = [_RELEASED_NOTE] if model.preprocessing is not None else []
    with staged_folder(Path(folder)) as path:
        if to == "ems-fast":
            _write_model(model, path, int8=int8)
            use = {}
        elif to == "onnx":
            onnx.write_onnx(model, path, int8=int8)
            use = {"use": onnx.USE}
            notes += onnx.INT8_NOTES if int8 else []
        else:
            sentence_transformers.write_sentence_transformers(model, path)
            use = {"use": sentence_transformers.USE}
            notes += sentence_transformers.NOTES
        card = model_card(model.config, run=run, licence=licence, library=to, notes=notes, **use)
        write_card(path, card)
    return Path(folder)


def _write_model(encoder: SentenceEncoder, path: Path, *, int8: bool = False) -> None:
    """Write ``config.toml``, ``tokenizer.model`` and ``model.safetensors``, the encoder only.

    With `int8` the table of token vectors is written in 8 bits.
    """
    sections = {"model": model_section(encoder.config)}
    if encoder.preprocessing is not None:
        if encoder.preprocessing is not preprocess_released:
            raise InputError(
                "encoder: its preprocessing is a function, which cannot be saved; load it with "
                "preprocessing=None, and apply the function before encoding"
            )
        sections["text"] = {"preprocessing": "released"}
    folder = RunFolder(path)
    weights = {f"encoder.{k}": v for k, v in encoder.module.state_dict().items()}
    folder.tokenizer.write_bytes(encoder.tokenizer.model)
    folder.write_weights(quantise(weights) if int8 else weights)
    folder.write_config({**sections, "files": folder.digests()})
