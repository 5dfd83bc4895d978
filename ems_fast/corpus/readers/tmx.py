"""Translation Memory eXchange: XML with a unit a sentence and a variant a language."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from ems_fast.corpus.readers.base import FileReader, RawPair
from ems_fast.corpus.readers.xml import XmlHandler
from ems_fast.errors import InputError
from ems_fast.text.languages import primary, spell_code

# Inline elements whose content is markup of the document the text came from, not text.
_MARKUP = frozenset(["bpt", "ept", "ph", "it", "ut"])
_Unit = tuple[int, list[tuple[str, str]]]  # line, and language and text of each variant


@dataclass(frozen=True)
class Tmx(FileReader):
    """A .tmx file, plain or compressed, read as a stream.

    Without languages, every two variants of a unit become a pair; with them, only the variants
    asked for, where ``en`` also takes ``en-US``. Codes of inline markup are left out of the text.
    Nothing outside the file is ever fetched, and a file that declares entities is refused.

    Args:
        path: the file.
        source_lang: language of the first side.
        target_lang: language of the second side.
    """

    def _check_beginning(self) -> None:
        _ = self._given
        next(self._units(), None)

    def __iter__(self) -> Iterator[RawPair]:
        """The pairs in the order of the file."""
        asked = self._given
        seen: set[str] = set()
        found = False
        for line, variants in self._units():
            seen.update(language for language, _ in variants)
            if asked is None:
                for (a, source), (b, target) in itertools.combinations(variants, 2):
                    if a != b:
                        yield RawPair(source, target, a, b, line)
                continue
            first, second = _variant(variants, asked[0]), _variant(variants, asked[1])
            if first is not None and second is not None:
                found = True
                yield RawPair(first, second, *asked, line)
        if asked is not None and not found:
            raise InputError(
                f"{self.path}: no unit has both {asked[0]!r} and {asked[1]!r}; the file's "
                f"languages are {', '.join(sorted(seen)) or 'none'}"
            )

    def _units(self) -> Iterator[_Unit]:
        """The units that have been read in full."""
        handler = _Handler(self.name)
        yield from handler.units(self.location)
        if handler.root != "tmx":
            raise InputError(f"{self.path}: is XML but no TMX, which begins with <tmx>")


def _variant(variants: list[tuple[str, str]], language: str) -> str | None:
    """The text of exactly this language, else of a regional one of it."""
    exact = [text for code, text in variants if code == language]
    regional = [text for code, text in variants if primary(code) == language]
    return next(iter(exact + regional), None)


class _Handler(XmlHandler[_Unit]):
    """Collects the variants of the unit that the parser is in."""

    def __init__(self, name: str):
        super().__init__(name)
        self._line = 0
        self._variants: list[tuple[str, str]] = []
        self._language = ""
        self._segment: list[str] | None = None
        self._markup = 0  # depth of inline markup

    def start(self, name: str, attributes: dict[str, str]) -> None:
        super().start(name, attributes)
        if name == "tu":
            self._line, self._variants = self.parser.CurrentLineNumber, []
        elif name == "tuv":
            code = attributes.get("xml:lang") or attributes.get("lang")
            if not code:
                raise InputError(f"{self.where}: a <tuv> has no xml:lang")
            self._language = spell_code(code, f"{self.where}: xml:lang")
        elif name == "seg":
            self._segment, self._markup = [], 0
        elif name in _MARKUP:
            self._markup += 1

    def end(self, name: str) -> None:
        if name == "tu":
            self.finished.append((self._line, self._variants))
        elif name == "seg" and self._segment is not None:
            self._variants.append((self._language, "".join(self._segment)))
            self._segment = None
        elif name in _MARKUP:
            self._markup -= 1

    def text(self, data: str) -> None:
        if self._segment is not None and not self._markup:
            self._segment.append(data)
