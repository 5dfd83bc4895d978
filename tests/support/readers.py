"""What tests of readers do with files and pairs."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ems_fast.corpus import RawPair


def write(path: Path, text: str | bytes) -> Path:
    """Write a file, and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def texts(reader: Iterable[RawPair]) -> list[tuple[str, str]]:
    """Both sides of every pair."""
    return [(pair.source, pair.target) for pair in reader]


def languages(reader: Iterable[RawPair]) -> set[tuple[str, str]]:
    """The languages that pairs are in."""
    return {(pair.source_lang, pair.target_lang) for pair in reader}
