"""A SentencePiece model as a ``tokenizer.json`` of the library `tokenizers`.

Both the ids and their order are to be the same for every text. The model (byte-pair encoding or
unigram) carries over as it is; normalisation needs care. SentencePiece replaces, at every position,
the longest text that its rules know. The normaliser ``Precompiled`` reads the same rules, but
takes the *shortest* rule that begins a short grapheme and drops the rest of that grapheme, so that
a capital letter would lose its accent. What is written here therefore

1. separates every combining character from what is before it, so that ``Precompiled`` sees single
   characters only, for which it is exact;
2. joins again what a rule composes into one character, which NFC does; elsewhere the separator
   stays, and keeps NFC from sorting marks by their combining class, as SentencePiece does not;
3. removes the separators, and treats spaces as SentencePiece does.

What still differs is beyond ordinary text: the decomposed iota subscript of ancient Greek (U+0345),
U+0344 after a letter, a combining mark right after a compatibility character of several letters
such as ℀, and under case folding a capital Ϊ or Ϋ with a separate accent. In unigram models, also a
text that spells out the name of a special piece such as ``<pad>`` or ``<0x41>``, if all its
neighbouring characters are together in pieces: ``<p``, ``pa``, ``ad`` and ``d>``.
"""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

import sentencepiece

from ems_fast.errors import InputError
from ems_fast.text.sentencepiece_model import NORMAL, USER_DEFINED, Piece, SentencePieceModel
from ems_fast.text.tokenizer import UNK_ID, Tokenizer

SPACE = "▁"
# A noncharacter, which no text holds.
SEPARATOR = "\ufdd0"
# What a grapheme continues with: marks, joiners, half-width voiced marks, emoji skin tones.
_CONTINUES = r"[\p{M}\p{Cf}\x{FF9E}\x{FF9F}\x{1F3FB}-\x{1F3FF}]"
# NFC would join these; the rules join only a syllable that is wholly in parts.
_SYLLABLE_AND_TAIL = r"(?<=[\x{AC00}-\x{D7A3}])(?=[\x{11A8}-\x{11C2}])"

Json = dict[str, Any]


def fast_tokenizer(tokenizer: Tokenizer, max_tokens: int | None = None) -> Json:
    """The content of ``tokenizer.json``; of a longer text, `max_tokens` are kept.

    Raises:
        InputError: the model is of another type, or uses what `tokenizers` cannot express.
    """
    model = SentencePieceModel.parse(tokenizer.model)
    check_tokenizer(model)
    processor = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    truncation = {
        "direction": "Right", "max_length": max_tokens, "strategy": "LongestFirst", "stride": 0
    }  # fmt: skip
    return {
        "version": "1.0",
        "truncation": None if max_tokens is None else truncation,
        "padding": None,
        # Pad and unk are not among them: their names in a text are text.
        "added_tokens": [],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [*_characters(model, processor.normalize), *_spaces(model)],
        },
        "pre_tokenizer": _pre_tokenizer(model),
        "post_processor": None,
        "decoder": _decoder(model),
        "model": _bpe(model) if model.type == "bpe" else _unigram(model),
    }


def check_tokenizer(model: SentencePieceModel) -> None:
    """Raise `InputError` if it does what other forms cannot express, and no tokenizer of ours."""
    problem = None
    if model.type not in ("bpe", "unigram"):
        problem = f"is of type {model.type}, expected bpe or unigram"
    elif model.whitespace_as_suffix or not model.escape_whitespaces:
        problem = "writes spaces at the end of pieces or not as ▁, which cannot be expressed"
    elif any(piece.type == USER_DEFINED for piece in model.pieces):
        problem = "has user-defined symbols, which cannot be expressed"
    if problem:
        raise InputError(
            f"tokenizer: {problem}; export with a tokenizer that `ems-fast prepare` trains"
        )


def _replace(pattern: str, content: str) -> Json:
    return {"type": "Replace", "pattern": {"Regex": pattern}, "content": content}


def _characters(model: SentencePieceModel, normalize: Callable[[str], str]) -> list[Json]:
    """What the compiled rules do."""
    if not model.charsmap:
        return []
    charsmap = base64.b64encode(model.charsmap).decode("ascii")

    def rules(text: str) -> str:
        return normalize(text).removeprefix(SPACE)

    # Not at the beginning: `tokenizers` loses count of characters inserted there, and panics.
    steps = [_replace(rf"(?!\A)(?={_CONTINUES})|{_SYLLABLE_AND_TAIL}", SEPARATOR)]
    if rules("I\u0307") == rules("İ"):
        # The one composite of today's alphabets that lower-casing its parts would prevent.
        steps.append(_replace(f"I{SEPARATOR}\u0307", "İ"))
    steps.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    chains = _composed_chains(rules)
    if chains:
        steps += [_replace(_before_composing(chains), ""), {"type": "NFC"}]
    return [*steps, _replace(SEPARATOR, "")]


def _composed_chains(normalize: Callable[[str], str]) -> list[str]:
    """The texts of a character and one to three marks that the rules compose into one character."""
    chains = []
    # Not Hangul, whose parts are letters and never separated.
    for code in (*range(0xA0, 0xAC00), *range(0xD7A4, 0x30000)):
        chain = unicodedata.normalize("NFD", chr(code))
        if len(chain) < 2 or unicodedata.normalize("NFC", chain) != chr(code):
            continue
        if normalize(chain) == normalize(chr(code)) == chr(code):
            chains.append(chain)
    return chains


def _before_composing(chains: Iterable[str]) -> str:
    """A pattern: the separator before the last mark of a chain, separators being all along it."""
    bases: dict[tuple[str, str], set[str]] = {}
    for chain in chains:
        bases.setdefault((chain[1:-1], chain[-1]), set()).add(chain[0])
    # Marks that follow the same texts share an alternative.
    marks: dict[tuple[frozenset[str], str], set[str]] = {}
    for (between, mark), before in bases.items():
        marks.setdefault((frozenset(before), between), set()).add(mark)
    alternatives = (
        f"(?<={_class(before)}{''.join(SEPARATOR + c for c in between)}{SEPARATOR})"
        f"(?={_class(after)})"
        for (before, between), after in marks.items()
    )
    return f"{SEPARATOR}(?:{'|'.join(alternatives)})"


def _class(characters: Iterable[str]) -> str:
    return f"[{_literal(''.join(sorted(characters)))}]"


def _spaces(model: SentencePieceModel) -> list[Json]:
    steps = []
    if model.remove_extra_whitespaces:
        # At the end, SentencePiece also takes away a ▁ that the text itself held.
        steps += [_replace(rf"\A +|[ {SPACE}]+\z", ""), _replace(" {2,}", " ")]
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})
    if model.add_dummy_prefix:
        steps.append({"type": "Prepend", "prepend": SPACE})
    return steps


def _pre_tokenizer(model: SentencePieceModel) -> Json | None:
    steps: list[Json] = []
    normal = [piece.text for piece in model.pieces if piece.type == NORMAL]
    # Words apart, which is faster, if no piece spans two of them.
    if not any(SPACE in text[1:] for text in normal):
        steps.append(_split({"String": SPACE}, "MergedWithNext"))
    if model.type == "unigram" and (names := _names_apart(model, normal)):
        steps.append(_split({"Regex": names}, "MergedWithPrevious"))
    if len(steps) < 2:
        return steps[0] if steps else None
    return {"type": "Sequence", "pretokenizers": steps}


def _split(pattern: Json, behavior: str) -> Json:
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": False}


def _names_apart(model: SentencePieceModel, normal: list[str]) -> str:
    """A pattern: the beginnings of names of special pieces, where the rest of a name follows.

    `tokenizers` looks for all pieces in a text, also for pad, unk and bytes, whose names are text
    to SentencePiece. Cut between two characters that no piece has together, a name is not found,
    and nothing else changes.
    """
    together = {text[i : i + 2] for text in normal for i in range(len(text) - 1)}
    # Without bytes, two unknown characters beside each other are one token, and may not be cut.
    known = None if model.byte_fallback else set(normal)
    rests: dict[str, list[str]] = {}
    for name in (piece.text for piece in model.pieces if piece.type != NORMAL):
        for cut in range(1, len(name)):
            pair = name[cut - 1 : cut + 1]
            if pair not in together and (known is None or not known.isdisjoint(pair)):
                rests.setdefault(name[:cut], []).append(name[cut:])
                break
    return "|".join(
        f"{_literal(begin)}(?={'|'.join(map(_literal, ends))})" for begin, ends in rests.items()
    )


def _literal(text: str) -> str:
    return "".join(rf"\x{{{ord(c):X}}}" for c in text)


def _decoder(model: SentencePieceModel) -> Json:
    steps: list[Json] = [
        {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if model.add_dummy_prefix:
        steps.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {"type": "Sequence", "decoders": steps}


def _bpe(model: SentencePieceModel) -> Json:
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": model.pieces[UNK_ID].text,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": model.byte_fallback,
        "ignore_merges": False,
        "vocab": {piece.text: i for i, piece in enumerate(model.pieces)},
        "merges": [list(merge) for merge in _merges(model.pieces)],
    }


def _merges(pieces: Iterable[Piece]) -> list[tuple[str, str]]:
    """Every pair of pieces whose text together is a piece, the best piece first.

    SentencePiece merges any such pair; its score is that of the piece that comes out.
    """
    scores = {piece.text: piece.score for piece in pieces if piece.type == NORMAL}
    merges = [
        (-score, text[:cut], text[cut:])
        for text, score in scores.items()
        for cut in range(1, len(text))
        if text[:cut] in scores and text[cut:] in scores
    ]
    return [(left, right) for _, left, right in sorted(merges, key=lambda merge: merge[0])]


def _unigram(model: SentencePieceModel) -> Json:
    return {
        "type": "Unigram",
        "unk_id": UNK_ID,
        "vocab": [[piece.text, piece.score] for piece in model.pieces],
        "byte_fallback": model.byte_fallback,
    }
