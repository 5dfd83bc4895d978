"""Cleaned pairs on disk between the passes of `prepare`, a file a language pair.

Blocks of pairs are compressed one by one, so that reading and writing hold one block in memory
and no compressor is kept open for any of the (perhaps hundreds of) language pairs.
"""

from __future__ import annotations

import os
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
    _path: Path
    _offset: int  # of the compressed text
    _size: int

    def texts(self) -> list[str]:
        """The 2n sentences, source and target of each pair one after another."""
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = file.read(self._size)
        return zstandard.ZstdDecompressor().decompress(data).decode().split("\n")


class Spool:
    """Appends pairs, then reads them back by language pair, in the order they came.

    Its files are in a new folder; `counts` holds the pairs written of each language pair.
    """

    def __init__(self, folder: Path):
        folder.mkdir()
        self._folder = folder
        self.counts: Counter[tuple[str, str]] = Counter()
        # Texts, digests, inputs; not a tuple a pair, which would keep the garbage collector busy.
        self._buffers: dict[tuple[str, str], tuple[list[str], list[bytes], list[int]]] = {}
        self._characters = 0
        self._compressor = zstandard.ZstdCompressor(level=1)

    def add(self, languages: tuple[str, str], text: str, digests: bytes, index: int) -> None:
        """Append a pair of the input `index`: its two lines, and their hashes, 16 bytes."""
        buffer = self._buffers.setdefault(languages, ([], [], []))
        buffer[0].append(text)
        buffer[1].append(digests)
        buffer[2].append(index)
        self._characters += len(text)
        if len(buffer[2]) == _BLOCK_PAIRS:
            self._write(languages)
        elif self._characters >= _BUFFERED_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered."""
        for languages in list(self._buffers):
            self._write(languages)

    def _write(self, languages: tuple[str, str]) -> None:
        texts, digests, inputs = self._buffers.pop(languages)
        records = np.empty(len(inputs), dtype=RECORD)
        records["hashes"] = np.frombuffer(b"".join(digests), dtype="<i8").reshape(-1, 2)
        records["input"] = inputs
        text = self._compressor.compress("\n".join(texts).encode())
        with self._path(languages).open("ab") as file:
            file.write(_HEADER.pack(len(records), len(text)) + records.tobytes() + text)
        self.counts[languages] += len(records)
        self._characters -= sum(map(len, texts))

    def blocks(self, languages: tuple[str, str]) -> Iterator[Block]:
        """Every pair, by blocks; text is read only where it is asked for."""
        path = self._path(languages)
        start = 0
        with path.open("rb") as file:
            while header := file.read(_HEADER.size):
                n, size = _HEADER.unpack(header)
                records = np.frombuffer(file.read(n * RECORD.itemsize), dtype=RECORD)
                yield Block(start, records, path, file.tell(), size)
                file.seek(size, os.SEEK_CUR)
                start += n

    def remove(self, languages: tuple[str, str]) -> None:
        """Free the room of a language pair."""
        self._path(languages).unlink()

    def _path(self, languages: tuple[str, str]) -> Path:
        return self._folder / f"{'-'.join(languages)}.pairs"
