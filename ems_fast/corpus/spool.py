"""Cleaned pairs on disk between the passes of `prepare`, a file a language pair.

Blocks of pairs are compressed one by one, so that reading and writing hold one block in memory
and no compressor is kept open for any of the (perhaps hundreds of) language pairs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard

# Sentence hashes of both sides, and the index of the input that the pair came from.
RECORD = np.dtype([("source", "<i8"), ("target", "<i8"), ("input", "<u4")])
Records = npt.NDArray[Any]

_BLOCK_PAIRS = 8192
_BUFFERED_CHARACTERS = 1 << 25  # over all language pairs
_HEADER = struct.Struct("<II")  # pairs, bytes of compressed text


@dataclass
class _Buffer:
    texts: list[str] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)


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
    """

    def __init__(self, folder: Path):
        folder.mkdir()
        self._folder = folder
        self._buffers: dict[tuple[str, str], _Buffer] = {}
        self._characters = 0
        self._counts: dict[tuple[str, str], int] = {}
        self._compressor = zstandard.ZstdCompressor(level=1)

    @property
    def counts(self) -> dict[tuple[str, str], int]:
        """Pairs of each language pair."""
        return self._counts

    def add(
        self, languages: tuple[str, str], source: str, target: str, digests: bytes, index: int
    ) -> None:
        """Append a pair of one-line sentences.

        Args:
            languages: source and target language.
            source: text without line ends.
            target: text without line ends.
            digests: the hashes of both sides, 16 bytes.
            index: the input's.
        """
        buffer = self._buffers.get(languages)
        if buffer is None:
            buffer = self._buffers[languages] = _Buffer()
        buffer.texts += (source, target)
        buffer.digests.append(digests)
        buffer.inputs.append(index)
        self._characters += len(source) + len(target)
        if len(buffer.inputs) == _BLOCK_PAIRS:
            self._write(languages)
        elif self._characters >= _BUFFERED_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        """Write what is buffered."""
        for languages in list(self._buffers):
            self._write(languages)

    def _write(self, languages: tuple[str, str]) -> None:
        buffer = self._buffers.pop(languages)
        n = len(buffer.inputs)
        records = np.empty(n, dtype=RECORD)
        hashes = np.frombuffer(b"".join(buffer.digests), dtype="<i8").reshape(n, 2)
        records["source"], records["target"] = hashes[:, 0], hashes[:, 1]
        records["input"] = buffer.inputs
        text = self._compressor.compress("\n".join(buffer.texts).encode())
        with self._path(languages, "text").open("ab") as file:
            file.write(_HEADER.pack(n, len(text)) + text)
        with self._path(languages, "records").open("ab") as file:
            file.write(records.tobytes())
        self._counts[languages] = self._counts.get(languages, 0) + n
        self._characters -= sum(map(len, buffer.texts))

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
