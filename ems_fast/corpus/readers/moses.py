"""Two files of equal length, line i of one the translation of line i of the other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ems_fast.corpus.readers.base import RawPair
from ems_fast.errors import InputError
from ems_fast.files.locations import Location, Url, location
from ems_fast.files.streams import COMPRESSIONS, check_file, read_lines
from ems_fast.text.languages import check_pair


@dataclass(frozen=True)
class Moses:
    """``prefix.en`` and ``prefix.de``, plain or compressed, line-aligned, UTF-8.

    Args:
        prefix: the path that both files share, without the dot.
        source_lang: extension and language of the one file.
        target_lang: extension and language of the other.
    """

    prefix: str | Path | Url
    source_lang: str
    target_lang: str

    @property
    def name(self) -> str:
        """``prefix.{en,de}``."""
        return f"{self.prefix}.{{{self.source_lang},{self.target_lang}}}"

    @property
    def paths(self) -> tuple[Location, Location]:
        """The two files."""
        return self._find(self.source_lang), self._find(self.target_lang)

    def _find(self, language: str) -> Location:
        plain = f"{self.prefix}.{language}"
        for suffix in ("", *COMPRESSIONS):
            path = location(plain + suffix)
            if path.exists():
                return path
        raise InputError(
            f"{plain}: does not exist, nor with {', '.join(COMPRESSIONS)}; a Moses pair needs the "
            f"files {self.prefix}.{self.source_lang} and {self.prefix}.{self.target_lang}"
        )

    def check(self) -> None:
        """Read both files: neither may be missing or empty, and they have as many lines."""
        check_pair(self.source_lang, self.target_lang, self.name)
        for path in self.paths:
            check_file(path)
        self._check_aligned()

    def _check_aligned(self) -> None:
        a, b = self.paths
        first, second = (sum(1 for _ in read_lines(path)) for path in (a, b))
        if first != second:
            raise InputError(
                f"{a} has {first:,} lines and {b} has {second:,}; the files of a pair must be "
                f"aligned line by line"
            )

    def __iter__(self) -> Iterator[RawPair]:
        """The pairs in the order of the files."""
        source_lang, target_lang = check_pair(self.source_lang, self.target_lang, self.name)
        for a, b in itertools.zip_longest(*map(read_lines, self.paths)):
            if a is None or b is None:
                self._check_aligned()
                raise InputError(f"{self.name}: changed while it was read")
            yield RawPair(a[1], b[1], source_lang, target_lang, a[0])
