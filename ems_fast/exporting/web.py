"""A folder for a browser: a page that finds the lines nearest to a sentence, without a server.

The page lies beside this module, in ``site``; what is written here is its data. A page that was
opened as a file may read nothing but scripts, so the data are scripts, with bytes in base64.
"""

from __future__ import annotations

import base64
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ems_fast.encoding.encoder import SentenceEncoder
from ems_fast.errors import InputError
from ems_fast.exporting.fast_tokenizer import check_tokenizer
from ems_fast.files.streams import read_lines
from ems_fast.model.quantisation import Bits, quantise
from ems_fast.model.token_table import TokenTable
from ems_fast.text.languages import is_known, spell_code
from ems_fast.text.sentencepiece_model import SentencePieceModel

SITE = Path(__file__).with_name("site")
# The page embeds them when it is opened, and compares all of them at every key.
MAX_LINES = 100_000
# Of a script; divisible by 3, so that base64 has no padding inside.
PART_BYTES = 3_000_000
_STORED_BITS: dict[Any, Bits] = {np.dtype(np.int8): 8, np.dtype(np.uint8): 4}
_TABLE = "encoder.tokens.weight"

Lines = list[dict[str, Any]]
"""Of every language, ``language``, a code or None, and ``lines``."""


def read_texts(text: Sequence[str | Path] | None) -> Lines:
    """The lines of files, each once, by language in the order of the files.

    A language is that which a file's name tells: ``de.txt``, ``news.pt-br``, ``news.de.txt.gz``.

    Raises:
        InputError: there are no lines, or too many for a page.
    """
    if not text:
        raise InputError(
            "text: to='web' needs lines to search in; give files of one sentence a line, such as "
            "lines.txt, or of several languages, such as news.en.txt and news.de.txt"
        )
    groups: dict[str | None, dict[str, None]] = {}
    paths = [Path(path) for path in ([text] if isinstance(text, (str, Path)) else text)]
    for path in paths:
        found = groups.setdefault(_language_of(path), {})
        room = MAX_LINES - sum(map(len, groups.values())) + len(found)
        for number, line in read_lines(path):
            if line.strip():
                found[line.strip()] = None
            if len(found) > room:
                raise InputError(
                    f"text: has more lines than the {MAX_LINES:,} that a page searches, from line "
                    f"{number:,} of {path} on; give fewer"
                )
    kept = [{"language": code, "lines": list(lines)} for code, lines in groups.items() if lines]
    if not kept:
        raise InputError(f"text: there is no line with text in {', '.join(map(str, paths))}")
    return kept


def write_site(
    encoder: SentenceEncoder,
    folder: Path,
    lines: Lines,
    *,
    name: str,
    bits: Bits | None,
    licence: str,
) -> None:
    """Write the page, the model and the lines into an empty folder.

    Args:
        encoder: a token table, with or without phrases.
        lines: what the page searches.
        name: of the model, as the page calls it.
        bits: of a number in the table, 8 or 4; None leaves a table of 8 or 4 as it is, and takes 8
            for others.
        licence: of the model, as the page tells it.

    Raises:
        InputError: the model has layers or preprocessing, or its tokenizer is one that the page
            does not know.
    """
    if not encoder.config.is_table:
        raise InputError(
            "to: got 'web' for a model with layers, but the page holds a token table (presets "
            "phrases and static); export to='onnx' for ONNX Runtime Web"
        )
    if encoder.preprocessing is not None:
        raise InputError(
            "to: got 'web' for a model with preprocessing, which the page cannot do; load it with "
            "preprocessing=None to search text that has had it"
        )
    check_tokenizer(SentencePieceModel.parse(encoder.tokenizer.model))
    table = _table(encoder, bits)
    shutil.copytree(SITE, folder, dirs_exist_ok=True)
    data = folder / "data"
    data.mkdir()
    assert table.scales is not None
    content = {
        "tokenizer": np.frombuffer(encoder.tokenizer.model, np.uint8),
        "rows": table.rows,
        "scales": table.scales.astype("<f4"),
        **_phrases(table, encoder.config.vocab_size),
    }
    about = {
        "name": name,
        "licence": licence,
        "languages": encoder.config.languages,
        "width": encoder.config.width,
        "vocabSize": encoder.config.vocab_size,
        "maxTokens": encoder.config.max_tokens,
        "phrases": encoder.config.phrases,
        "bits": _STORED_BITS[table.rows.dtype],
        "files": [_write_parts(data, name, array) for name, array in content.items()],
    }
    _write_script(data / "about.js", "emsFast.about", about)
    _write_script(data / "lines.js", "emsFast.lines", lines)


def _language_of(path: Path) -> str | None:
    """The code that a file's name ends with, before its extensions, or is."""
    codes = [part for part in path.name.split(".") if is_known(part)]
    return spell_code(codes[-1]) if codes else None


def _table(encoder: SentenceEncoder, bits: Bits | None) -> TokenTable:
    """The table in 8 or 4 bits: as it is stored, if that is what is wanted, or quantised."""
    stored = encoder.as_table()
    if stored is not None:
        had = _STORED_BITS.get(stored.rows.dtype)
        if had is not None and bits in (None, had):
            return stored
    module = encoder.as_module()
    state = quantise({_TABLE: module.tokens.weight.detach().cpu()}, bits or 8)
    return TokenTable(
        state[_TABLE].numpy(),
        state[f"{_TABLE}_scale"].numpy(),
        None if module.phrases is None else module.phrases.cpu().numpy(),
    )


def _phrases(table: TokenTable, vocab_size: int) -> dict[str, npt.NDArray[Any]]:
    """Where the phrases of each first token begin, uint32 [V + 1], and second tokens, uint32 [K].

    A phrase's key is beyond the integers that JavaScript compares fast.
    """
    if table.phrases is None:
        return {}
    begins = np.searchsorted(table.phrases, np.arange(vocab_size + 1) * vocab_size)
    return {"begins": begins.astype("<u4"), "seconds": (table.phrases % vocab_size).astype("<u4")}


def _write_parts(data: Path, name: str, array: npt.NDArray[Any]) -> dict[str, Any]:
    """Write the bytes of an array as scripts, and tell the page how many there are."""
    content = array.tobytes()
    starts = range(0, len(content), PART_BYTES)
    for part, start in enumerate(starts):
        encoded = base64.b64encode(content[start : start + PART_BYTES]).decode("ascii")
        (data / f"{name}.{part}.js").write_text(f'emsFast.part("{encoded}");\n', encoding="ascii")
    return {"name": name, "bytes": len(content), "parts": len(starts)}


def _write_script(path: Path, name: str, value: Any) -> None:
    script = f"{name} = {json.dumps(value, ensure_ascii=False)};\n"
    path.write_text(script, encoding="utf-8")
