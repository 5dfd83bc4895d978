"""An encoder without a model: hashed character n-grams, so that similar spellings are near."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np


class NgramEncoder:
    def __init__(self, D: int = 64):
        self.D = D
        self.encoded = 0  # sentences asked for so far

    def encode(self, sentences: Sequence[str], *, normalize: bool = False) -> np.ndarray:
        self.encoded += len(sentences)
        vectors = np.zeros((len(sentences), self.D), np.float32)
        for vector, sentence in zip(vectors, sentences, strict=True):
            text = f"  {sentence.lower()} "
            for i in range(len(text) - 2):
                code = zlib.crc32(text[i : i + 3].encode())
                vector[code % self.D] += 1 if code & 0x10000 else -1
        if normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return vectors


class CollapsedEncoder:
    """Every sentence gets the same vector."""

    def encode(self, sentences: Sequence[str], *, normalize: bool = False) -> np.ndarray:
        vector = np.random.default_rng(0).standard_normal(96).astype(np.float32)
        return np.tile(vector, (len(sentences), 1))
