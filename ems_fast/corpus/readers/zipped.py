"""Moses pairs inside of a .zip, as OPUS gives them out."""

from __future__ import annotations

import itertools
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePosixPath
from zipfile import ZIP_LZMA, BadZipFile, ZipFile, ZipInfo

from ems_fast.corpus.readers.base import FileReader, RawPair
from ems_fast.errors import EmsError, InputError
from ems_fast.files.streams import open_raw, split_lines
from ems_fast.text.languages import check_pair, is_known, spell_code

# What the library raises where an archive is damaged, or packed as it cannot unpack.
_DAMAGED = (
    BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, ValueError,
)  # fmt: skip
# Text packs to a tenth, repetitive text to a fiftieth. What packs better by far is no text, and
# is refused where it would be large.
MAX_RATIO = 200
_SMALL = 1 << 26


@dataclass(frozen=True)
class ZippedMoses(FileReader):
    """A .zip with ``name.en`` and ``name.de`` in it, line-aligned, UTF-8, such as those of OPUS.

    Nothing is unpacked to disk. Other files in it are ignored. An archive whose text would be over
    200 times larger than it is packed, and over 64 MiB, is refused.

    Args:
        path: the archive.
        source_lang: extension and language of the one file; needed where the archive has files of
            more than two languages.
        target_lang: extension and language of the other.
    """

    def _check_beginning(self) -> None:
        with self._open() as archive:
            for info in self._members(archive):
                with archive.open(info) as file:
                    file.read(1)

    @contextmanager
    def _open(self) -> Iterator[ZipFile]:
        try:
            with open_raw(self.location, seekable=True) as raw, ZipFile(raw) as archive:
                yield archive
        except EmsError:
            raise
        except _DAMAGED as error:
            raise InputError(f"{self.path}: the archive is damaged or locked ({error})") from error
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read ({error.strerror or error})") from error

    def _members(self, archive: ZipFile) -> tuple[ZipInfo, ZipInfo]:
        """The two files, in the order of the languages."""
        found: dict[str, dict[str, ZipInfo]] = {}  # by prefix and language
        for info in archive.infolist():
            stem, _, code = info.filename.rpartition(".")
            if stem and not info.is_dir() and is_known(code):
                found.setdefault(stem, {})[spell_code(code)] = info
        wanted = self._given
        fitting = [
            (files, wanted or tuple(sorted(files)))
            for files in found.values()
            if (len(files) == 2 if wanted is None else files.keys() >= set(wanted))
        ]
        if len(fitting) != 1:
            names = [f"{PurePosixPath(stem).name}.{{{','.join(sorted(files))}}}"
                     for stem, files in sorted(found.items())]  # fmt: skip
            raise InputError(
                f"{self.path}: holds {', '.join(names) or 'no Moses pairs such as x.en and x.de'}; "
                f"expected one pair of files{' of ' + '-'.join(wanted) if wanted else ''}"
                + ("" if wanted or not names else "; give languages='en-de' or the like")
            )
        files, (first, second) = fitting[0]
        check_pair(first, second, self.name)
        for info in (files[first], files[second]):
            if info.compress_type == ZIP_LZMA:  # asks for as much memory as it likes
                raise InputError(
                    f"{self.path}: {info.filename} is packed with LZMA, which is not read; pack "
                    "the archive as usual, with deflate"
                )
            if info.file_size > max(_SMALL, MAX_RATIO * info.compress_size):
                raise InputError(
                    f"{self.path}: {info.filename} would unpack from {info.compress_size:,} to "
                    f"{info.file_size:,} bytes, more than {MAX_RATIO} times as much, which text "
                    "does not; unpack it yourself if you trust it"
                )
        return files[first], files[second]

    @cached_property
    def languages(self) -> tuple[str, str]:
        """Source and target language."""
        with self._open() as archive:
            first, second = (info.filename for info in self._members(archive))
        return spell_code(first.rpartition(".")[2]), spell_code(second.rpartition(".")[2])

    def __iter__(self) -> Iterator[RawPair]:
        """The pairs in the order of the files."""
        source_lang, target_lang = self.languages
        with self._open() as archive:
            a, b = self._members(archive)
            with archive.open(a) as first, archive.open(b) as second:
                lines = (
                    split_lines(first, f"{self.path}!{a.filename}"),
                    split_lines(second, f"{self.path}!{b.filename}"),
                )
                for source, target in itertools.zip_longest(*lines):
                    if source is None or target is None:
                        ended, longer = (a, b) if source is None else (b, a)
                        number = (target or source)[0]
                        raise InputError(
                            f"{self.path}: {ended.filename} ends before line {number:,} of "
                            f"{longer.filename}; the files of a pair must be aligned line by line"
                        )
                    yield RawPair(source[1], target[1], source_lang, target_lang, source[0])
