"""Training the SentencePiece model of a corpus."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from typing import Literal

import sentencepiece

from ems_fast.errors import InputError
from ems_fast.text.tokenizer import PAD_ID, UNK_ID, Tokenizer

TokenizerType = Literal["bpe", "unigram"]

_TOO_HIGH = re.compile(r"Vocabulary size too high \(\d+\)\. Please set it to a value <= (\d+)")
_TOO_SMALL = re.compile(r"Vocabulary size is smaller than required_chars\. \d+ vs (\d+)")


def train_tokenizer(
    sentences: Iterable[str], vocab_size: int, kind: TokenizerType = "bpe"
) -> Tokenizer:
    """Train a SentencePiece model with normalisation, lower-casing and byte fallback built in.

    A text that has too little in it for `vocab_size` pieces gets as many as it gives; compare
    the result's `vocab_size`.

    Args:
        sentences: the text; what it holds decides the memory this takes.
        vocab_size: V, the number of pieces, with pad, unk and 256 bytes among them.
        kind: ``bpe``, byte-pair encoding, or ``unigram``, a unigram language model of pieces.

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
