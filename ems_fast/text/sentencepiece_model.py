"""What a SentencePiece model file says that the `sentencepiece` package does not tell.

The file is a protocol buffer (``sentencepiece_model.proto``: ``pieces`` = 1, ``trainer_spec`` = 2,
``normalizer_spec`` = 3). Only a few fields are needed, so it is read here without a library for it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

MODEL_TYPES = {1: "unigram", 2: "bpe", 3: "word", 4: "char"}
# Types of a piece; others are unknown, control, unused and byte pieces.
NORMAL, USER_DEFINED = 1, 4


class Piece(NamedTuple):
    """One piece of the vocabulary."""

    text: str
    score: float
    type: int


@dataclass(frozen=True)
class SentencePieceModel:
    """The parts of a SentencePiece model that decide how text becomes ids.

    Attributes:
        pieces: the vocabulary, in the order of the ids.
        type: how pieces are found, one of `MODEL_TYPES`.
        byte_fallback: unknown characters are spelt in bytes.
        whitespace_as_suffix: spaces end a piece instead of beginning it.
        charsmap: the compiled normalisation rules; empty if there are none.
        add_dummy_prefix: text gets a space in front.
        remove_extra_whitespaces: spaces are trimmed, and runs of them become one.
        escape_whitespaces: a space becomes ▁.
    """

    pieces: tuple[Piece, ...]
    type: str
    byte_fallback: bool
    whitespace_as_suffix: bool
    charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    escape_whitespaces: bool

    @classmethod
    def parse(cls, model: bytes) -> SentencePieceModel:
        """Read a serialised model that `sentencepiece` has accepted."""
        parts = list(_fields(model))
        trainer, normalizer = (dict(_fields(dict(parts).get(number, b""))) for number in (2, 3))
        return cls(
            pieces=tuple(_piece(dict(_fields(part))) for number, part in parts if number == 1),
            type=MODEL_TYPES[trainer.get(3, 1)],
            byte_fallback=bool(trainer.get(35, False)),
            whitespace_as_suffix=bool(trainer.get(24, False)),
            charsmap=normalizer.get(2, b""),
            add_dummy_prefix=bool(normalizer.get(3, True)),
            remove_extra_whitespaces=bool(normalizer.get(4, True)),
            escape_whitespaces=bool(normalizer.get(5, True)),
        )


def _piece(fields: dict[int, Any]) -> Piece:
    (score,) = struct.unpack("<f", fields.get(2, b"\0\0\0\0"))
    return Piece(fields[1].decode("utf-8"), score, fields.get(3, NORMAL))


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Number and value of every field: an int, or bytes, also of a float or a double."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        size = {1: 8, 5: 4}.get(wire)
        if size is None:
            size, position = _varint(message, position)
        yield number, message[position : position + size]
        position += size


def _varint(message: bytes, position: int) -> tuple[int, int]:
    """A number in base 128, least digit first, and where it ends."""
    value = shift = 0
    while True:
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
