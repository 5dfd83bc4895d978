"""Sentences to token ids: a SentencePiece model that normalises, lower-cases and never fails."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from ems_fast import _encoding
from ems_fast.errors import InputError

if TYPE_CHECKING:
    import sentencepiece

PAD_ID = 0
UNK_ID = 1
TokenizerType = Literal["bpe", "unigram"]

_TOO_HIGH = re.compile(r"Vocabulary size too high \(\d+\)\. Please set it to a value <= (\d+)")
_TOO_SMALL = re.compile(r"Vocabulary size is smaller than required_chars\. \d+ vs (\d+)")


class Tokenizer:
    """A SentencePiece model and nothing else; pad is id 0 and unk id 1.

    Ids are those of the library SentencePiece. A unigram model is read by a kernel of this project
    (csrc/encoding/unigram.h), which is faster and starts at once; for any other, such as one of
    BPE, the library itself serves. `implementation` tells which.

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
        self._unigram: _encoding.Unigram | None = None
        try:
            self._unigram = _encoding.Unigram(model)
        except _encoding.MalformedModelError as error:
            raise InputError(f"{name}: not a SentencePiece model ({error})") from error
        except _encoding.NotCoveredError:
            try:
                processor = self._processor
            except RuntimeError as error:
                raise InputError(f"{name}: not a SentencePiece model ({error})") from error
            found = processor.vocab_size(), processor.pad_id(), processor.unk_id()
        else:
            found = self._unigram.vocab_size, self._unigram.pad_id, self._unigram.unk_id
        self.vocab_size: int = found[0]
        pad, unk = found[1:]
        if (pad, unk) != (PAD_ID, UNK_ID):
            raise InputError(
                f"{name}: has pad id {pad} and unk id {unk}, expected {PAD_ID} and {UNK_ID}"
            )

    @property
    def implementation(self) -> Literal["ems-fast", "SentencePiece"]:
        """What makes the ids. SentencePiece where ours does not cover the model.

        That is one of another type than unigram, one that does not write spaces as ▁, or one with
        unused pieces or with user-defined symbols that hold a space.
        """
        return "SentencePiece" if self._unigram is None else "ems-fast"

    @cached_property
    def _processor(self) -> sentencepiece.SentencePieceProcessor:
        # Where our kernel serves, only what it does not do needs the library and its load.
        import sentencepiece

        return sentencepiece.SentencePieceProcessor(model_proto=self.model)

    def __reduce__(self) -> tuple[type[Tokenizer], tuple[bytes]]:
        return Tokenizer, (self.model,)

    @classmethod
    def from_file(cls, path: str | Path) -> Tokenizer:
        """Load a ``.model`` file, or the ``tokenizer.model`` of a run's or a corpus's folder.

        Raises:
            InputError: the file is missing or is no SentencePiece model.
        """
        if Path(path).is_dir():
            path = Path(path) / "tokenizer.model"
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
        ids: list[int] = self.encode_packed([sentence])[0].tolist()
        return ids

    def encode_packed(
        self, sentences: Sequence[str], num_threads: int = 1
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Tokenise B sentences into one flat array, on up to `num_threads` threads.

        The interpreter's lock is free meanwhile.

        Returns:
            ids int64 [N] and offsets int64 [B + 1]; sentence i is ``ids[offsets[i]:offsets[i+1]]``.

        Raises:
            TypeError: something is no string.
            UnicodeError: half of a surrogate pair is in a sentence.
        """
        texts = list(sentences)
        offsets = np.zeros(len(texts) + 1, dtype=np.int64)
        if self._unigram is not None:
            ids = self._unigram.encode(offsets.ctypes.data + 8, texts, num_threads)
            flat = np.empty(ids.size, np.int64)
            ids.copy(flat.ctypes.data)
            return flat, offsets
        encoded = self._processor.encode(texts, num_threads=num_threads)
        flat = np.empty(_encoding.list_ends(offsets.ctypes.data + 8, encoded), np.int64)
        _encoding.flatten(flat.ctypes.data, encoded)
        return flat, offsets

    def unknown_share(self, sentences: Sequence[str]) -> float:
        """The share of characters, spaces aside, that have neither a piece nor bytes."""
        written = unknown = 0
        for sentence in sentences:
            for piece in self._processor.encode(sentence, out_type=str):  # an unknown one's text
                count = len(piece.replace("▁", ""))
                written += count
                unknown += count if self._processor.piece_to_id(piece) == UNK_ID else 0
        return unknown / written if written else 0.0

    def decode(self, ids: Sequence[int]) -> str:
        """The text of `ids`: what normalisation left of the sentence."""
        text: str = self._processor.decode(list(ids))
        return text

    def piece(self, token: int) -> str:
        """The piece of one id, with SentencePiece's ▁ for a space."""
        piece: str = self._processor.id_to_piece(token)
        return piece


def train_tokenizer(
    sentences: Iterable[str], vocab_size: int, kind: TokenizerType = "bpe"
) -> Tokenizer:
    """Train a SentencePiece model with normalisation, lower-casing and byte fallback built in.

    The `vocab_size` pieces have pad, unk and 256 bytes among them. A text that has too little in
    it for so many gets as many as it gives; compare the result's `vocab_size`.

    Raises:
        InputError: there is no text, or `vocab_size` is too small for its characters.
    """
    text = list(sentences)
    try:
        return Tokenizer(_train(text, vocab_size, kind))
    except RuntimeError as error:
        if match := _TOO_HIGH.search(str(error)):
            return Tokenizer(_train(text, int(match[1]), kind))
        if match := _TOO_SMALL.search(str(error)):
            raise InputError(
                f"vocab_size: {vocab_size} is too small for the characters of this text, which "
                f"need {match[1]} with the 256 bytes; give {match[1]} or, better, much more"
            ) from error
        if not any(sentence.strip() for sentence in text):
            raise InputError("the corpus has no text to train a tokenizer on") from error
        raise InputError(f"the tokenizer cannot be trained on this text ({error})") from error


def _train(text: list[str], vocab_size: int, kind: TokenizerType) -> bytes:
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_writer=model,
        model_type=kind,
        vocab_size=vocab_size,
        pad_id=PAD_ID,
        unk_id=UNK_ID,
        bos_id=-1,
        eos_id=-1,
        normalization_rule_name="nmt_nfkc_cf",  # NFKC and case folding
        character_coverage=0.9995,  # rarer characters are spelt in bytes
        byte_fallback=True,
        split_digits=True,  # numbers are spelt out, or the rare ones would each be a piece
        max_sentence_length=1 << 16,  # bytes; the default leaves out long sentences
        num_threads=4,  # fixed: it is stored in the model, whose hash must not depend on it
        minloglevel=2,  # errors only
    )
    return model.getvalue()
