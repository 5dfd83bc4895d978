"""Hashes of sentences and of pairs, the same on every machine, and duplicates among them."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_U64 = np.dtype("<u8")
_PARTITION = 1 << 18  # hashes sorted at a time
_ZEROS = 1 << 20  # bytes written at a time
_ENTRY = np.dtype([("hash", "<u8"), ("position", "<i8")])


def text_key(text: str) -> str:
    """What makes two sentences the same: NFKC, case folded, spaces collapsed."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())


def key_digest(key: str) -> bytes:
    """The hash of a `text_key` as 8 bytes, little-endian."""
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8).digest()


def sentence_hash(text: str) -> int:
    """The hash of a sentence, a signed 64-bit integer; equal `text_key`, equal hash."""
    return int.from_bytes(key_digest(text_key(text)), "little", signed=True)


def mix(values: npt.NDArray[Any], seed: int = 0) -> npt.NDArray[np.uint64]:
    """A bijection of 64-bit integers [n] that looks random (the finaliser of splitmix64)."""
    offset = np.uint64((seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64)
    x = values.astype(_U64, copy=False).view(_U64) + offset
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def pair_hashes(hashes: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """One hash a pair from the sentence hashes of its sides [n, 2]; the order of these matters."""
    sides = hashes.astype(_U64)
    return mix(mix(sides[:, 0], 1) ^ sides[:, 1], 2)


def flag_duplicates(path: Path, hashes: Iterable[npt.NDArray[np.uint64]], count: int) -> int:
    """Write a file of a byte a hash: 1 where it occurred before; returns how many did.

    Memory is bounded: the `count` hashes are dealt into partitions by their value, a file each
    beside `path`, so that equal ones meet in one that is small enough to be sorted in memory.
    """
    with path.open("wb") as file:  # a full disk shows here: in mapped memory it would be a signal
        for start in range(0, count, _ZEROS):
            file.write(bytes(min(_ZEROS, count - start)))
    flags = np.memmap(path, dtype=np.bool_, mode="r+", shape=(count,))
    duplicates = 0
    for entries in _partitions(path, hashes, count):
        ordered = entries[np.argsort(entries["hash"], kind="stable")]
        same = ordered["hash"][1:] == ordered["hash"][:-1]
        flags[ordered["position"][1:][same]] = True
        duplicates += int(np.count_nonzero(same))
    return duplicates


def _partitions(
    path: Path, hashes: Iterable[npt.NDArray[np.uint64]], count: int
) -> Iterator[npt.NDArray[Any]]:
    """The (hash, position) entries in partitions, positions ascending within each."""
    number = -(-count // _PARTITION)
    files = [path.with_name(f"{path.name}.{index}") for index in range(number)]
    position = 0
    for chunk in hashes:
        entries = np.empty(len(chunk), dtype=_ENTRY)
        entries["hash"] = chunk
        entries["position"] = np.arange(position, position + len(chunk))
        position += len(chunk)
        partition = (chunk >> np.uint64(32)) % np.uint64(number)
        order = np.argsort(partition, kind="stable")
        bounds = np.searchsorted(partition[order], np.arange(number + 1))
        for index, file in enumerate(files):
            if bounds[index] < bounds[index + 1]:
                with file.open("ab") as out:
                    out.write(entries[order[bounds[index] : bounds[index + 1]]].tobytes())
    for file in files:
        if file.exists():
            data = file.read_bytes()
            file.unlink()
            yield np.frombuffer(data, dtype=_ENTRY)
