"""Models for other libraries."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal, get_args

import torch

from ems_fast.encoding.encoder import SentenceEncoder
from ems_fast.encoding.load import load
from ems_fast.encoding.released.text import preprocess_released
from ems_fast.encoding.shipped import folder_of
from ems_fast.errors import InputError, check_one_of
from ems_fast.exporting import hub, onnx, sentence_transformers, web
from ems_fast.files.staging import staged_folder
from ems_fast.model.quantisation import Bits, quantise
from ems_fast.runs.card import UNKNOWN_LICENCE, model_card, write_card
from ems_fast.runs.folder import RunFolder, model_section

_RELEASED_NOTE = (
    "It was trained on text that is lower-cased and split by a tool for its language; only the "
    "ems-fast form does that by itself, and needs `encode(sentences, language=...)`."
)
Target = Literal["sentence-transformers", "onnx", "ems-fast", "hub", "web"]
_BITS: dict[Target, tuple[Bits, ...]] = {
    "sentence-transformers": (32, 8, 4),
    "onnx": (32, 8),
    "ems-fast": (32, 8, 4),
    "hub": (32, 8, 4),
    "web": (8, 4),
}


def export(
    encoder: SentenceEncoder | str | Path,
    folder: str | Path,
    *,
    to: Target,
    bits: Bits | None = None,
    with_onnx: bool = False,
    text: Sequence[str | Path] | None = None,
    licence: str = UNKNOWN_LICENCE,
) -> Path:
    """Write an encoder in the form of another library, with its tokenizer and a model card.

    Or, with ``to="web"``, as a page for a browser, which tells of the model what a card would.

    Args:
        encoder: an encoder, the folder of a run, or the name of a shipped model; of a run, the card
            tells data and scores.
        folder: where to write; new or empty.
        to: ``"sentence-transformers"``, for ``SentenceTransformer(folder)``: a stock BERT with mean
            pooling, or of a token table a stock `StaticEmbedding`; of one with phrases a class of
            ours, for ``SentenceTransformer(folder, trust_remote_code=True)`` where ems-fast is
            installed; ``"onnx"``, a graph from ``input_ids`` and ``attention_mask`` int64 [B, T] to
            ``sentence_embedding`` float32 [B, D], with a ``tokenizer.json`` (extra ``export``);
            ``"ems-fast"``, what `ems_fast.load` reads, without what training needs; ``"hub"``,
            what `push` uploads: one folder for both `ems_fast.load` and ``SentenceTransformer``; or
            ``"web"``, of a token table a page that searches the lines of `text` in the browser.
        bits: of a number, 32, 8 or 4, in the table of token vectors that `ems_fast.load` or our
            class for sentence-transformers reads; 32 or 8 in the weights of an ONNX graph; 32 in
            stock modules; 8 or 4 in a page. None takes 32, and for a page 8, or what the table has
            already.
        with_onnx: of a token table for sentence-transformers, write ``onnx/model.onnx`` into its
            folder too, and what fastembed and others read beside it (extra ``export``). Of one with
            phrases that is all, for ``SentenceTransformer(folder, backend="onnx")``.
        text: what a page searches: files of a sentence a line. A file's name may tell the language
            of its lines, as ``news.de.txt`` does.
        licence: of the model, for the card.

    Returns:
        The folder.

    Raises:
        InputError: `folder` is in use, no such form, a package is missing, `text` is missing or
            given for no page, or the model or its tokenizer cannot be expressed there.
    """
    check_one_of("to", to, get_args(Target))
    check_one_of("bits", bits, (None, *get_args(Bits)))
    if bits is not None:
        _check_bits(bits, f"to={to!r}", _BITS[to])
    if with_onnx and to != "sentence-transformers":
        raise InputError(
            f"with_onnx: got True with to={to!r}; it adds a graph to a folder for "
            "sentence-transformers"
        )
    if text is not None and to != "web":
        raise InputError(f"text: got {text!r} with to={to!r}; only a page, to='web', searches it")
    with staged_folder(Path(folder)) as path:
        if to == "web":
            _write_site(encoder, path, bits, text, licence)
        else:
            _write(encoder, path, to, bits or 32, licence, with_onnx=with_onnx)
    return Path(folder)


def push(
    encoder: SentenceEncoder | str | Path,
    repository: str,
    *,
    bits: Bits = 32,
    licence: str = UNKNOWN_LICENCE,
    private: bool = False,
    endpoint: str | None = None,
) -> str:
    """Put an encoder with its card on a hub, for `ems_fast.load` and ``SentenceTransformer``.

    Whoever is logged in there (``hf auth login``, or ``HF_TOKEN``) pushes. The package
    ``huggingface_hub`` is needed (extra ``hub``).

    Args:
        encoder: an encoder, the folder of a run, or the name of a shipped model; of a run, the card
            tells data and scores.
        repository: ``org/name``; it is made if it is not there. `ems_fast.load` then knows it as
            ``hf:org/name``.
        bits: of a number, 32, 8 or 4, in the table of token vectors that `ems_fast.load` reads.
        licence: of the model, for the card.
        private: whether a repository that is made is shown to its owner only.
        endpoint: the hub's address; None takes ``HF_ENDPOINT``, else the public one.

    Returns:
        The address of what was pushed.

    Raises:
        InputError: not a repository's name, the package is missing, the model cannot be expressed
            for sentence-transformers, or the hub refuses or cannot be reached.
    """
    check_one_of("bits", bits, get_args(Bits))
    uploader = hub.Uploader(repository, endpoint)
    with TemporaryDirectory(prefix="ems-fast-") as scratch:
        _write(encoder, Path(scratch), "hub", bits, licence, repository)
        return uploader.upload(Path(scratch), private=private)


def _check_bits(bits: Bits, words: str, possible: tuple[Bits, ...]) -> None:
    if bits not in possible:
        known = " or ".join(map(str, possible))
        raise InputError(f"bits: got {bits} with {words}, which is written in {known}")


def _write(
    encoder: SentenceEncoder | str | Path,
    path: Path,
    to: Target,
    bits: Bits,
    licence: str,
    repository: str = "ORG/NAME",
    *,
    with_onnx: bool = False,
) -> None:
    """Write a form of the encoder and its card into an empty folder."""
    run = None if isinstance(encoder, SentenceEncoder) else RunFolder(folder_of(encoder))
    model = encoder if isinstance(encoder, SentenceEncoder) else load(encoder, device="cpu")
    if with_onnx and not model.config.is_table:
        raise InputError(
            "with_onnx: got True for a model with layers; only that of a token table lies in one "
            "folder with it, so export to='onnx'"
        )
    notes = [_RELEASED_NOTE] if model.preprocessing is not None else []
    use, library = {}, to
    if to == "onnx":
        onnx.write_onnx(model, path, int8=bits == 8)
        use = {"use": onnx.USE}
        notes += onnx.INT8_NOTES if bits == 8 else []
    # sentence-transformers has no module that knows phrases: it gets a graph, or a class of ours
    # for what `ems_fast.load` reads.
    phrases = model.config.phrases > 0
    graph_alone = phrases and with_onnx
    own_module = phrases and not with_onnx and to in ("sentence-transformers", "hub")
    if graph_alone:
        _check_bits(bits, "a graph", _BITS["onnx"])
    elif to == "sentence-transformers" and not own_module:
        _check_bits(bits, "to='sentence-transformers' and no phrases", (32,))
    if to in ("ems-fast", "hub") or own_module:
        _write_model(model, path, bits)
    if to in ("sentence-transformers", "hub"):
        use = {"use": sentence_transformers.USE}
        if graph_alone:
            sentence_transformers.write_onnx_alone(model, path, int8=bits == 8)
            use = {"use": sentence_transformers.USE_ONNX}
        elif own_module:
            sentence_transformers.add_own_module(path)
            use = {"use": sentence_transformers.USE_OWN}
        else:
            below = hub.BELOW if to == "hub" else ""
            sentence_transformers.write_sentence_transformers(model, path, below)
            notes += sentence_transformers.NOTES
            if with_onnx:
                sentence_transformers.add_onnx(model, path)
    if to == "hub":
        use = {"use": hub.use(repository, own_module=own_module)}
        library = "sentence-transformers"
    card = model_card(model.config, run=run, licence=licence, library=library, notes=notes, **use)
    write_card(path, card)


def _write_site(
    encoder: SentenceEncoder | str | Path,
    path: Path,
    bits: Bits | None,
    text: Sequence[str | Path] | None,
    licence: str,
) -> None:
    """Write the page of an encoder, which is called by the name of its folder."""
    lines = web.read_texts(text)
    if isinstance(encoder, SentenceEncoder):
        name, model = "EMS sentence encoder", encoder
    else:
        name, model = Path(encoder).absolute().name, load(encoder, device="cpu")
    web.write_site(model, path, lines, name=name, bits=bits, licence=licence)


def _write_model(encoder: SentenceEncoder, path: Path, bits: Bits) -> None:
    """Write ``config.toml``, ``tokenizer.model`` and ``model.safetensors``, the encoder only.

    The table of token vectors is written in so many bits a number.
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
    table = encoder.stored
    if table is not None and table.bits == bits:  # to round it again would cost accuracy
        weights = {name: torch.from_numpy(array.copy()) for name, array in table.tensors().items()}
    else:
        module = encoder.as_module().state_dict()
        weights = quantise({f"encoder.{name}": tensor for name, tensor in module.items()}, bits)
    folder.tokenizer.write_bytes(encoder.tokenizer.model)
    folder.write_weights(weights)
    folder.write_config({**sections, "files": folder.digests()})
