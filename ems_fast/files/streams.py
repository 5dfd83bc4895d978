"""Reading plain and compressed files as a stream of bytes or lines, with clear errors."""

from __future__ import annotations

import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Protocol, cast

from ems_fast.errors import InputError
from ems_fast.files.locations import Location, Url

COMPRESSIONS = (".gz", ".zst", ".xz")
# Longer lines are not text: without a limit, a file without line ends would fill the memory.
MAX_LINE_BYTES = 1 << 24
_CHUNK = 1 << 18
# Of a compressed file, decompressed at a time: zeros pack to a 32,000th.
_PACKED = 1 << 11
# What a .xz may ask for; xz -9 takes 65 MiB.
_XZ_BYTES = 1 << 28


class _Decompressor(Protocol):
    """Of one frame."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


class _Frames(io.RawIOBase):
    """The decompressed bytes of a .zst or .xz file, which has one frame or more.

    Unlike the libraries' own readers, it notices a cut-off file, and bounds what a file can make
    it hold.
    """

    def __init__(self, file: IO[bytes], new: Callable[[], _Decompressor], padding: bytes = b""):
        self._file = file
        self._new = new
        self._padding = padding  # what may stand between two frames
        self._frame: _Decompressor | None = None  # None between two frames
        self._packed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object) -> int:
        target = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        while not self._ready:
            if not self._packed:
                self._packed = self._file.read(_PACKED)
                if not self._packed:
                    if self._frame:
                        raise EOFError("the compressed data ends too early")
                    return 0
            if self._frame is None:
                self._packed = self._packed.lstrip(self._padding)
            self._ready = memoryview(self._decompress())
        n = min(len(target), len(self._ready))
        target[:n] = self._ready[:n]
        self._ready = self._ready[n:]
        return n

    def _decompress(self) -> bytes:
        if not self._packed:
            return b""
        frame = self._frame or self._new()
        found = frame.decompress(self._packed)
        self._frame = None if frame.eof else frame
        self._packed = frame.unused_data if frame.eof else b""
        return found


class _Zstd:
    """A `_Decompressor`, whose errors are those of the standard library."""

    def __init__(self) -> None:
        import zstandard  # plain text is read without it

        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._error = zstandard.ZstdError

    @property
    def eof(self) -> bool:
        return self._frame.eof

    @property
    def unused_data(self) -> bytes:
        return self._frame.unused_data

    def decompress(self, data: bytes, /) -> bytes:
        try:
            return self._frame.decompress(data)
        except self._error as error:
            raise EOFError(str(error)) from error


def _xz() -> _Decompressor:
    return lzma.LZMADecompressor(memlimit=_XZ_BYTES)


def extension(path: Location) -> str:
    """The extension below a compression's: ``.tsv`` of ``en-de.tsv.gz``."""
    return Path(path.stem).suffix if path.suffix in COMPRESSIONS else path.suffix


def check_file(path: Location) -> None:
    """Raise `InputError` unless `path` is a file with content that can be read."""
    try:
        if isinstance(path, Path) and path.is_dir():
            raise InputError(f"{path}: is a folder, expected a file")
        with open_raw(path) as file:
            if not file.read(1):
                raise InputError(f"{path}: the file is empty")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error


def open_raw(path: Location, *, seekable: bool = False) -> IO[bytes]:
    """The bytes of a file as they lie there; only those of a URL may not be `seekable`."""
    return path.open(seekable=seekable) if isinstance(path, Url) else path.open("rb")


@contextmanager
def open_bytes(path: Location) -> Iterator[IO[bytes]]:
    """Open a file, decompressing by its extension.

    Raises:
        InputError: the file cannot be read, or its compressed data is damaged or cut off. Errors
            while the caller reads inside the context are reported the same way.
    """
    try:
        with open_raw(path) as file:
            if path.suffix == ".gz":
                yield cast(IO[bytes], gzip.GzipFile(fileobj=file))
            elif path.suffix == ".xz":
                yield io.BufferedReader(_Frames(file, _xz, padding=b"\0"), _CHUNK)
            elif path.suffix == ".zst":
                yield io.BufferedReader(_Frames(file, _Zstd), _CHUNK)
            else:
                yield file
    except (zlib.error, lzma.LZMAError, EOFError, gzip.BadGzipFile) as error:
        raise InputError(f"{path}: the compressed file is damaged ({error})") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error


def read_lines(path: Location, encoding: str = "utf-8") -> Iterator[tuple[int, str]]:
    """The lines of a file without their ends (LF or CRLF), numbered from 1.

    Compressed files are read by their extension; a byte-order mark is no part of the first line.

    Raises:
        InputError: naming file and line, where bytes are not of the encoding or a line has over
            16 MiB.
    """
    with open_bytes(path) as file:
        yield from split_lines(file, path, encoding)


def split_lines(
    file: IO[bytes], name: object, encoding: str = "utf-8"
) -> Iterator[tuple[int, str]]:
    """`read_lines` of an open file, which messages call `name`."""
    number = 0
    while raw := file.readline(MAX_LINE_BYTES):
        number += 1
        if len(raw) == MAX_LINE_BYTES and not raw.endswith(b"\n"):
            raise InputError(
                f"{name}, line {number}: has more than {MAX_LINE_BYTES:,} bytes; expected "
                "one sentence or pair a line"
            )
        try:
            line = raw.decode(encoding)
        except UnicodeDecodeError:
            line = decode(raw, encoding, f"{name}, line {number}")  # says what is wrong
        if number == 1:
            line = line.removeprefix("\ufeff")
        yield number, line.rstrip("\r\n")


def decode(raw: bytes, encoding: str, where: str) -> str:
    """The text of some bytes; `InputError` names `where` if they are not of the encoding."""
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where}: is not {encoding.upper()} (byte 0x{raw[error.start]:02x} at position "
            f"{error.start + 1}); convert the file, for example with iconv"
        ) from error
