"""XLIFF 1.2 and 2: a program's or a document's segments and their translations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from ems_fast.corpus.readers.base import FileReader, RawPair
from ems_fast.corpus.readers.xml import XmlHandler
from ems_fast.errors import InputError
from ems_fast.text.languages import check_pair

# Inline elements of 1.2 whose content is markup of the document the text came from; those of
# version 2 have none.
_MARKUP = frozenset(["bpt", "ept", "ph", "it"])
# Proposals of other translations, whose <source> and <target> are not the unit's own.
_PROPOSALS = frozenset(["alt-trans", "match"])
# States of a <target> (1.2) or <segment> (2) in which the text is no translation yet.
_UNTRANSLATED = frozenset(["new", "needs-translation", "initial"])
_Unit = tuple[int, str, str, str, str]  # line, source, target, and their languages, "" if unsaid


@dataclass(frozen=True)
class Xliff(FileReader):
    """A .xlf or .xliff file, version 1.2 or 2, plain or compressed, read as a stream.

    The languages are the arguments', else the file's own. Segments without a translation, those
    in a state that says so, and proposals (``alt-trans``, ``match``) are skipped; inline codes are
    left out of the text. Nothing outside the file is ever fetched, and a file that declares
    entities is refused.

    Args:
        path: the file.
        source_lang: language of the ``source`` elements.
        target_lang: language of the ``target`` elements.
    """

    def _check_beginning(self) -> None:
        next(iter(self), None)

    def __iter__(self) -> Iterator[RawPair]:
        """The pairs in the order of the file."""
        handler = _Handler(self.name)
        for line, source, target, *languages in handler.units(self.location):
            if self._given is None and not all(languages):
                raise InputError(
                    f"{self.path}, line {line}: the file does not say its two languages; give "
                    "source_lang='en' and target_lang='de' or the like"
                )
            source_lang, target_lang = self._given or check_pair(
                languages[0], languages[1], self.name
            )
            yield RawPair(source, target, source_lang, target_lang, line)
        if _local(handler.root) != "xliff":
            raise InputError(f"{self.path}: is XML but no XLIFF, which begins with <xliff>")


class _Handler(XmlHandler[_Unit]):
    """Collects the segments, of which both versions have a source and a target."""

    def __init__(self, name: str):
        super().__init__(name)
        self._languages = ("", "")
        self._line = 0
        self._sides: dict[str, str] = {}
        self._translated = True
        self._side: list[str] | None = None
        self._markup = 0  # depth of inline markup
        self._proposals = 0  # depth of proposals

    def start(self, name: str, attributes: dict[str, str]) -> None:
        super().start(name, attributes)
        name = _local(name)
        if name in ("xliff", "file"):
            # Version 2 has them on the outermost element, 1.2 on each file.
            self._languages = (
                attributes.get("srcLang") or attributes.get("source-language", self._languages[0]),
                attributes.get("trgLang") or attributes.get("target-language", self._languages[1]),
            )
        elif name in _PROPOSALS:
            self._proposals += 1
        elif self._proposals:
            return
        elif name in ("trans-unit", "segment"):
            self._line, self._sides = self.parser.CurrentLineNumber, {}
            self._translated = attributes.get("state") not in _UNTRANSLATED
        elif name in ("source", "target"):
            self._side, self._markup = [], 0
            if attributes.get("state") in _UNTRANSLATED:
                self._translated = False
        elif name in _MARKUP:
            self._markup += 1

    def end(self, name: str) -> None:
        name = _local(name)
        if name in _PROPOSALS:
            self._proposals -= 1
        elif self._proposals:
            return
        elif name in ("source", "target") and self._side is not None:
            self._sides[name] = "".join(self._side)
            self._side = None
        elif name in ("trans-unit", "segment"):
            source, target = self._sides.get("source", ""), self._sides.get("target", "")
            if self._translated and source.strip() and target.strip():
                self.finished.append((self._line, source, target, *self._languages))
        elif name in _MARKUP:
            self._markup -= 1

    def text(self, data: str) -> None:
        if self._side is not None and not self._markup and not self._proposals:
            self._side.append(data)


def _local(name: str) -> str:
    """The name without the prefix of its namespace."""
    return name.rpartition(":")[2]
