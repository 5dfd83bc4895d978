"""What every reader of parallel text gives and promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol, runtime_checkable


class RawPair(NamedTuple):
    """One pair as the file has it.

    Attributes:
        source: text of the first side.
        target: text of the second side.
        source_lang: its language, in one spelling: ``de``, ``pt-br``, ``zh_hans``.
        target_lang: the other language; never the same.
        line: where the pair is in the file, from 1, for messages.
    """

    source: str
    target: str
    source_lang: str
    target_lang: str
    line: int


@runtime_checkable
class Reader(Protocol):
    """A source of pairs that can be read any number of times, as a stream."""

    @property
    def name(self) -> str:
        """The file or files, for messages and reports."""

    def check(self) -> None:
        """Raise `InputError` for what can be seen before reading everything."""

    def __iter__(self) -> Iterator[RawPair]:
        """The pairs in the order of the file.

        Raises:
            InputError: naming file and line.
        """
