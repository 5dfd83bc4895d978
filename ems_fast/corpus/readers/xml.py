"""What readers of XML have in common: a stream of units, and no entities."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar
from xml.parsers import expat

from ems_fast.errors import EmsError, InputError
from ems_fast.files.locations import Location
from ems_fast.files.streams import MAX_LINE_BYTES, open_bytes

_CHUNK = 1 << 16
Unit = TypeVar("Unit")


class XmlHandler(Generic[Unit]):
    """Collects the units of a file while the parser goes through it.

    Attributes:
        finished: the units that have been read in full.
        root: name of the outermost element.
    """

    def __init__(self, name: str):
        self.finished: list[Unit] = []
        self.root = ""
        self._name = name
        # expat neither fetches external entities nor a DTD unless handlers for them are set.
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.text
        self.parser.EntityDeclHandler = self._refuse

    @property
    def where(self) -> str:
        """File and line, for messages."""
        return f"{self._name}, line {self.parser.CurrentLineNumber}"

    def start(self, name: str, attributes: dict[str, str]) -> None:
        """An element begins."""
        self.root = self.root or name

    def end(self, name: str) -> None:
        """An element ends."""

    def text(self, data: str) -> None:
        """Text inside of the element that began last."""

    def units(self, place: Location) -> Iterator[Unit]:
        """The units of the file, as soon as each is complete."""
        with open_bytes(place) as file:
            done, fed = False, 0
            while not done:
                data = file.read(_CHUNK)
                done, fed = not data, fed + len(data)
                try:
                    self.parser.Parse(data, done)
                except EmsError:
                    raise
                except expat.ExpatError as error:
                    reason = expat.errors.messages.get(error.code, "unknown error")
                    raise InputError(
                        f"{self._name}, line {error.lineno}: is not well-formed XML ({reason})"
                    ) from error
                except (LookupError, ValueError) as error:
                    raise InputError(
                        f"{self._name}: declares an encoding that cannot be read ({error}); "
                        "convert the file to UTF-8"
                    ) from error
                # What the parser holds back until it has seen all of it.
                if fed - max(self.parser.CurrentByteIndex, 0) > MAX_LINE_BYTES:
                    raise InputError(
                        f"{self.where}: a tag or comment has more than {MAX_LINE_BYTES:,} bytes"
                    )
                yield from self.finished
                self.finished.clear()

    def _refuse(self, entity: str, *_: object) -> None:
        raise InputError(
            f"{self.where}: declares the entity {entity!r}; entities are not expanded, remove "
            f"the declaration"
        )
