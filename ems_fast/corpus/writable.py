"""Whether a tokenizer that was given can write the text that it is to write."""

from __future__ import annotations

from ems_fast.errors import InputError
from ems_fast.text.tokenizer import Tokenizer

MOST_UNKNOWN = 0.05
"""The largest share of a language's characters that may have no piece and no bytes: with one
character in twenty gone, about every fourth word of five letters is damaged."""
SAMPLE = 1000
"""Sentences of a language that are judged, the first ones."""


class WritingCheck:
    """Looks at the first sentences of every language, so that a misfit shows at once."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._seen: dict[str, list[str]] = {}

    def add(self, language: str, sentence: str) -> None:
        """Look at one more sentence.

        Raises:
            InputError: more than `MOST_UNKNOWN` of the language cannot be written.
        """
        seen = self._seen.setdefault(language, [])
        if len(seen) < SAMPLE:
            seen.append(sentence)
            if len(seen) == SAMPLE:
                self._judge(language)

    def finish(self) -> None:
        """Judge the languages of fewer sentences.

        Raises:
            InputError: as `add`.
        """
        for language, seen in self._seen.items():
            if len(seen) < SAMPLE:
                self._judge(language)

    def _judge(self, language: str) -> None:
        share = self._tokenizer.unknown_share(self._seen[language])
        if share > MOST_UNKNOWN:
            raise InputError(
                f"tokenizer: cannot write {100 * share:.0f} % of the characters of language "
                f"{language}, expected at most {100 * MOST_UNKNOWN:.0f} %; `extend` appends the "
                "pieces that a model lacks (new_pieces above 0), or prepare without a given "
                "tokenizer and train anew"
            )
