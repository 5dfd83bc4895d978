"""Cleaned pairs on disk between the passes of `prepare`, a file a language pair.

Blocks of pairs are compressed one by one, so that reading and writing hold one block in memory
and no compressor is kept open for any of the (perhaps hundreds of) language pairs.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

# Sentence hashes of both sides, and the index of the input that the pair came from.
RECORD = np.dtype([("hashes", "<i8", 2), ("input", "<u4")])
Records = npt.NDArray[Any]

_BLOCK_PAIRS = 8192
_BUFFERED_CHARACTERS = 1 << 25  # over all language pairs
_HEADER = struct.Struct("<II")  # pairs, bytes of compressed text


@dataclass(frozen=True)
class Block:
    """Consecutive pairs of one language pair.

    Attributes:
        start: index of the first within the language pair.
        records: `RECORD` [n].
    """

    start: int
    records: Records
    _compressed: bytes

    def texts(self) -> list[str]:
        """The 2n sentences, source and target of each pair one after another."""
        return zstandard.ZstdDecompressor().decompress(self._compressed).decode().split("\n")


class Spool:
    """Appends pairs, then reads them back by language pair, in the order they came.

    Args:
        folder: a new folder for the files.

    Attributes:
        counts: pairs of each language pair.
    """

    def __init__(self, folder: Path):
        folder.mkdir()
        self._folder = folder
        self.counts: Counter[tuple[str, str]] = Counter()
        self._buffers: dict[tuple[str, str], list[tuple[str, bytes, int]]] = {}
        self._characters = 0
        self._compressor = zstandard.ZstdCompressor(level=1)

    def add(self, languages: tuple[str, str], text: str, digests: bytes, index: int) -> None:
        """Append a pair.

        Args:
            languages: source and target language.
            text: source and target, each a line, with a line end between them.
            digests: the hashes of both sides, 16 bytes.
            index: the input's.
        """
        buffer = self._buffers.setdefault(languages, [])
        buffer.append((text, digests, index))
        self._characters += len(text)
        if len(buffer) == _BLOCK_PAIRS:
            self._write(languages)
        elif self._characters >= _BUFFERED_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered."""
        for languages in list(self._buffers):
            self._write(languages)

    def _write(self, languages: tuple[str, str]) -> None:
        texts, digests, inputs = zip(*self._buffers.pop(languages), strict=True)
        records = np.empty(len(inputs), dtype=RECORD)
        records["hashes"] = np.frombuffer(b"".join(digests), dtype="<i8").reshape(-1, 2)
        records["input"] = inputs
        text = self._compressor.compress("\n".join(texts).encode())
        with self._path(languages, "text").open("ab") as file:
            file.write(_HEADER.pack(len(records), len(text)) + text)
        with self._path(languages, "records").open("ab") as file:
            file.write(records.tobytes())
        self.counts[languages] += len(records)
        self._characters -= sum(map(len, texts))

    def blocks(self, languages: tuple[str, str]) -> Iterator[Block]:
        """Every pair with its text, by blocks."""
        start = 0
        with (
            self._path(languages, "text").open("rb") as texts,
            self._path(languages, "records").open("rb") as records,
        ):
            while header := texts.read(_HEADER.size):
                n, size = _HEADER.unpack(header)
                data = records.read(n * RECORD.itemsize)
                yield Block(start, np.frombuffer(data, dtype=RECORD), texts.read(size))
                start += n

    def records(self, languages: tuple[str, str], chunk: int = 1 << 17) -> Iterator[Records]:
        """The records alone, by chunks of at most `chunk`."""
        with self._path(languages, "records").open("rb") as file:
            while data := file.read(chunk * RECORD.itemsize):
                yield np.frombuffer(data, dtype=RECORD)

    def remove(self, languages: tuple[str, str]) -> None:
        """Delete a language pair that is done with, to free its disk space."""
        for kind in ("text", "records"):
            self._path(languages, kind).unlink()

    def _path(self, languages: tuple[str, str], kind: str) -> Path:
        return self._folder / f"{'-'.join(languages)}.{kind}"
