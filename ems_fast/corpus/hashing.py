"""Hashes of sentences and of pairs: the same on every machine, in every run."""

from __future__ import annotations

import unicodedata
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

_U64 = np.dtype("<u8")


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
    """A bijection of 64-bit integers that looks random (the finaliser of splitmix64).

    Args:
        values: int64 or uint64 [n].
        seed: another seed, another bijection.
    """
    offset = np.uint64((seed * 0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019) % 2**64)
    x = values.astype(_U64, copy=False).view(_U64) + offset
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def pair_hashes(hashes: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """One hash a pair from the sentence hashes of its sides [n, 2]; the order of these matters."""
    sides = hashes.astype(_U64)
    return mix(mix(sides[:, 0], 1) ^ sides[:, 1], 2)
