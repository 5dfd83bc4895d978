"""What every reader of parallel text gives and promises."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from ems_fast.errors import InputError
from ems_fast.files.locations import Location, Url, location
from ems_fast.files.streams import check_file
from ems_fast.text.languages import check_pair


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
    """A source of pairs that can be read any number of times, as a stream.

    What is wrong with it is an `InputError` from `check` or from iterating, naming file and line.
    """

    @property
    def name(self) -> str:
        """The file or files, for messages and reports."""

    def check(self) -> None:
        """Look for what can be seen before reading everything."""

    def __iter__(self) -> Iterator[RawPair]:
        """The pairs in the order of the file."""


@dataclass(frozen=True)
class FileReader(ABC):
    """What readers of one file have in common; the file may lie behind a URL."""

    path: str | Path | Url
    source_lang: str | None = None
    target_lang: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", location(self.path))  # the dataclass is frozen

    @property
    def location(self) -> Location:
        """The path, or the URL."""
        return location(self.path)

    @property
    def name(self) -> str:
        """The file's path."""
        return str(self.path)

    def check(self) -> None:
        """Look at the beginning: it is there, undamaged, its languages and layout are clear."""
        check_file(self.location)
        self._check_beginning()

    @abstractmethod
    def _check_beginning(self) -> None:
        """The rest of `check`, for a file that is there."""

    @cached_property
    def _given(self) -> tuple[str, str] | None:
        """The languages that the arguments give, if they do."""
        if self.source_lang is None and self.target_lang is None:
            return None
        if self.source_lang is None or self.target_lang is None:
            raise InputError(f"{self.path}: give both source_lang and target_lang, or neither")
        return check_pair(self.source_lang, self.target_lang, str(self.path))
