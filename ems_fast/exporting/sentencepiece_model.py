"""What a SentencePiece model file says that the `sentencepiece` package does not tell.

The file is a protocol buffer (``sentencepiece_model.proto``: ``pieces`` = 1, ``trainer_spec`` = 2,
``normalizer_spec`` = 3). Only a few fields are needed, so it is read here without a library for it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum


class ModelType(IntEnum):
    """How pieces are found."""

    UNIGRAM = 1
    BPE = 2
    WORD = 3
    CHAR = 4


class PieceType(IntEnum):
    """What a piece is."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Piece:
    """One piece of the vocabulary."""

    text: str
    score: float
    type: PieceType


@dataclass(frozen=True)
class SentencePieceModel:
    """The parts of a SentencePiece model that decide how text becomes ids.

    Attributes:
        pieces: the vocabulary, in the order of the ids.
        type: how pieces are found.
        byte_fallback: unknown characters are spelt in bytes.
        whitespace_as_suffix: spaces end a piece instead of beginning it.
        charsmap: the compiled normalisation rules; empty if there are none.
        add_dummy_prefix: text gets a space in front.
        remove_extra_whitespaces: spaces are trimmed, and runs of them become one.
        escape_whitespaces: a space becomes ▁.
    """

    pieces: tuple[Piece, ...]
    type: ModelType
    byte_fallback: bool
    whitespace_as_suffix: bool
    charsmap: bytes
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    escape_whitespaces: bool

    @classmethod
    def parse(cls, model: bytes) -> SentencePieceModel:
        """Read a serialised model that `sentencepiece` has accepted."""
        pieces = []
        trainer: dict[int, int | bytes] = {}
        normalizer: dict[int, int | bytes] = {}
        for number, value in _fields(model):
            if number == 1:
                pieces.append(_piece(dict(_fields(_bytes(value)))))
            elif number == 2:
                trainer = dict(_fields(_bytes(value)))
            elif number == 3:
                normalizer = dict(_fields(_bytes(value)))
        return cls(
            pieces=tuple(pieces),
            type=ModelType(int(trainer.get(3, ModelType.UNIGRAM))),
            byte_fallback=bool(trainer.get(35, False)),
            whitespace_as_suffix=bool(trainer.get(24, False)),
            charsmap=_bytes(normalizer.get(2, b"")),
            add_dummy_prefix=bool(normalizer.get(3, True)),
            remove_extra_whitespaces=bool(normalizer.get(4, True)),
            escape_whitespaces=bool(normalizer.get(5, True)),
        )


def _piece(fields: dict[int, int | bytes]) -> Piece:
    (score,) = struct.unpack("<f", _bytes(fields.get(2, b"\0\0\0\0")))
    return Piece(
        _bytes(fields[1]).decode("utf-8"), score, PieceType(int(fields.get(3, PieceType.NORMAL)))
    )


def _bytes(value: int | bytes) -> bytes:
    assert isinstance(value, bytes)
    return value


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of every field; a float or a double is its bytes."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        wire = key & 7
        if wire == 0:
            value, position = _varint(message, position)
            yield key >> 3, value
            continue
        if wire == 2:
            size, position = _varint(message, position)
        else:
            size = {1: 8, 5: 4}[wire]
        yield key >> 3, message[position : position + size]
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
