"""Sentences to token ids: a SentencePiece model that normalises, lower-cases and never fails."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import sentencepiece

from ems_fast.errors import InputError

PAD_ID = 0
UNK_ID = 1


class Tokenizer:
    """A SentencePiece model and nothing else; pad is id 0 and unk id 1.

    Args:
        model: the serialised SentencePiece model.

    Attributes:
        model: the same.
        vocab_size: V, the number of pieces, pad and unk included.

    Raises:
        InputError: `model` is not a SentencePiece model, or its pad or unk have other ids.
    """

    def __init__(self, model: bytes, *, name: str = "tokenizer"):
        self.model = model
        try:
            self._processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise InputError(f"{name}: not a SentencePiece model ({error})") from error
        self.vocab_size: int = self._processor.vocab_size()
        pad, unk = self._processor.pad_id(), self._processor.unk_id()
        if (pad, unk) != (PAD_ID, UNK_ID):
            raise InputError(
                f"{name}: has pad id {pad} and unk id {unk}, expected {PAD_ID} and {UNK_ID}"
            )

    def __reduce__(self) -> tuple[type[Tokenizer], tuple[bytes]]:
        return Tokenizer, (self.model,)

    @classmethod
    def from_file(cls, path: str | Path) -> Tokenizer:
        """Load a ``.model`` file.

        Raises:
            InputError: the file is missing or is no SentencePiece model.
        """
        try:
            model = Path(path).read_bytes()
        except OSError as error:
            raise InputError(f"{path}: cannot read the tokenizer ({error.strerror})") from error
        return cls(model, name=str(path))

    @property
    def sha256(self) -> str:
        """Hash of the model: equal hashes give equal ids for every sentence."""
        return hashlib.sha256(self.model).hexdigest()

    def encode(self, sentence: str) -> list[int]:
        """The ids of one sentence; an empty or blank one has none."""
        ids: list[int] = self._processor.encode(sentence)
        return ids

    def encode_packed(
        self, sentences: Sequence[str], num_threads: int = 1
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Tokenise B sentences into one flat array.

        Args:
            sentences: B strings.
            num_threads: threads of SentencePiece's own pool.

        Returns:
            ids int64 [N] and offsets int64 [B + 1]; sentence i is ``ids[offsets[i]:offsets[i+1]]``.
        """
        encoded = self._processor.encode(list(sentences), num_threads=num_threads)
        offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
        np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
        flat = np.fromiter(chain.from_iterable(encoded), np.int64, int(offsets[-1]))
        return flat, offsets

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`: what normalisation left of the sentence."""
        text: str = self._processor.decode(list(ids))
        return text

    def piece(self, token: int) -> str:
        """The piece of one id, with SentencePiece's ▁ for a space."""
        piece: str = self._processor.id_to_piece(token)
        return piece
