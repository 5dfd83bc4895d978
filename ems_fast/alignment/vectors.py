"""The vectors of all blocks of consecutive lines."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np

from ems_fast.alignment.path import FloatArray
from ems_fast.encoding.encoder import EncodingWarning
from ems_fast.encoding.protocol import Encodes, encode_sentences
from ems_fast.mining.exact import unit_rows


def block_vectors(encoder: Encodes, name: str, lines: Sequence[str], most: int) -> FloatArray:
    """Encode every run of 1 to `most` lines, joined with spaces.

    Returns:
        float32 [most, n, D], of length 1 or zero: ``[s, i]`` is of the lines i to i + s, zero where
        there are not so many.

    Raises:
        InputError: not a sequence of strings, empty, or vectors that are not finite, one a line.
    """
    n = len(lines)
    blocks = _encode(encoder, name, lines)
    vectors = np.zeros((most, n, blocks.shape[1]), dtype=np.float32)
    vectors[0] = blocks
    with warnings.catch_warnings():
        # A block may be longer than the model reads though none of its lines is: its beginning
        # has to do, and few such blocks are chosen.
        warnings.simplefilter("ignore", EncodingWarning)
        for size in range(2, min(most, n) + 1):
            joined = [" ".join(lines[i : i + size]) for i in range(n - size + 1)]
            vectors[size - 1, : len(joined)] = _encode(encoder, name, joined)
    return vectors


def _encode(encoder: Encodes, name: str, lines: Sequence[str]) -> FloatArray:
    vectors = encode_sentences(encoder, name, lines)
    return unit_rows(f"encoder: the vectors of {name}", vectors, 0, len(vectors))
