"""A tokenizer that gets further pieces: those it has keep their ids."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from ems_fast.text.sentencepiece_model import NORMAL, Piece, SentencePieceModel
from ems_fast.text.tokenizer import Tokenizer, TokenizerType, train_tokenizer

SPACE = "▁"
# Of a tokenizer that is trained for its pieces alone: pad, unk and 256 bytes are among its own.
_NOT_PIECES = 258


def pieces_for(
    tokenizer: Tokenizer, sentences: Sequence[str], number: int, share: float
) -> list[Piece]:
    """At most `number` pieces of `sentences` that `tokenizer` lacks, best first.

    They are those of a tokenizer of its kind that is trained on `sentences`. A unigram piece's
    score is its log-probability there plus ``log(share)``, as if such text made up that share of
    all; one of BPE is merged after everything that is merged already.

    Raises:
        InputError: there is no text, or `number` is too small for its characters.
    """
    model = SentencePieceModel.parse(tokenizer.model)
    known = {piece.text for piece in model.pieces}
    kind: TokenizerType = "bpe" if model.type == "bpe" else "unigram"
    trained = SentencePieceModel.parse(train_tokenizer(sentences, number + _NOT_PIECES, kind).model)
    found = [p for p in trained.pieces if p.type == NORMAL and p.text not in known][:number]
    if kind == "bpe":
        least = min(piece.score for piece in model.pieces)
        return [piece._replace(score=least - 1 - rank) for rank, piece in enumerate(found)]
    return [piece._replace(score=piece.score + math.log(share)) for piece in found]


def append_pieces(tokenizer: Tokenizer, pieces: Sequence[Piece]) -> Tokenizer:
    """The tokenizer with `pieces` behind its own.

    A model is a protocol buffer, and fields that follow it are appended to its list of pieces.
    """
    return Tokenizer(tokenizer.model + b"".join(map(_field, pieces)))


def spelling(tokenizer: Tokenizer, piece: str) -> list[int]:
    """The ids that `tokenizer` writes the text of `piece` with, which it does not have."""
    ids = tokenizer.encode(piece.replace(SPACE, " "))
    # Text gets a space in front, which a piece from within a word does not have.
    inner = not piece.startswith(SPACE)
    return ids[1:] if inner and len(ids) > 1 and tokenizer.piece(ids[0]) == SPACE else ids


def _field(piece: Piece) -> bytes:
    text = piece.text.encode()
    body = b"\x0a" + _varint(len(text)) + text + b"\x15" + struct.pack("<f", piece.score)
    return b"\x0a" + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    parts = []
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*parts, value])
