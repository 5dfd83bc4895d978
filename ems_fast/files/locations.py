"""Where a file lies: a path, or a URL that fsspec opens."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ems_fast.errors import BackendError, InputError

# Read at once from a server, and so the unit in which memory is used.
BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class Url:
    """A file behind a URL such as ``s3://``, ``hf://`` or ``https://``, with a path's manners.

    Needs the extra ``fsspec``, and for most protocols the package that fsspec asks for.
    """

    text: str

    def __str__(self) -> str:
        return self.text

    @property
    def _path(self) -> PurePosixPath:
        return PurePosixPath(self.text.partition("://")[2].partition("?")[0])

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self._path.name

    @property
    def stem(self) -> str:
        """The name without its last extension."""
        return self._path.stem

    @property
    def suffix(self) -> str:
        """The last extension of the name."""
        return self._path.suffix

    @property
    def parent(self) -> PurePosixPath:
        """The folder, for its name."""
        return self._path.parent

    def exists(self) -> bool:
        """Whether there is such a file."""
        return bool(self._call(lambda system, path: system.exists(path)))

    def open(self, *, seekable: bool = False) -> IO[bytes]:
        """The bytes, as a stream; one that fails or ends early is an `InputError`, not an end.

        Args:
            seekable: also give ``seek``, for formats that begin at their end. Over HTTP that needs
                a server that answers requests for ranges.
        """

        def opened(system: Any, path: str) -> Any:
            streaming = not seekable and self.text.startswith(("http://", "https://"))
            # 0: one request for everything, where any other size is one for each block.
            options = {"block_size": 0} if streaming else {}
            return system.open(path, "rb", **options)

        raw = _Watched(self, self._call(opened), self._size())
        return io.BufferedReader(raw, BLOCK_BYTES)

    def _size(self) -> int | None:
        """Bytes that the server announces, where it does."""
        size = self._call(lambda system, path: system.info(path)).get("size")
        return size if isinstance(size, int) else None

    def _call(self, function: Any) -> Any:
        try:
            import fsspec
        except ImportError as error:
            raise BackendError(
                f"{self}: reading from a URL needs fsspec; pip install 'ems-fast[fsspec]'"
            ) from error
        try:
            return function(*fsspec.core.url_to_fs(self.text))
        except ImportError as error:
            raise BackendError(f"{self}: cannot be opened ({error})") from error
        except Exception as error:
            raise self.failure(error) from error

    def failure(self, error: Exception) -> InputError:
        """What is said when a file system fails, each of which has errors of its own."""
        reason = "does not exist" if isinstance(error, FileNotFoundError) else _words(error)
        return InputError(f"{self}: cannot be read ({reason})")


Location = Path | Url


def location(path: str | Path | Url) -> Location:
    """A `Url` where `path` is one, else a path."""
    if isinstance(path, Url):
        return path
    return Url(path) if isinstance(path, str) and "://" in path else Path(path)


class _Watched(io.RawIOBase):
    """The bytes of a URL, all of them or an error."""

    def __init__(self, url: Url, file: Any, size: int | None):
        self._url = url
        self._file = file
        self._size = size
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = self._file.seek(offset, whence)
        return self._place

    def tell(self) -> int:
        return self._place

    def readinto(self, buffer: object) -> int:
        target = memoryview(buffer).cast("B")  # type: ignore[arg-type]
        try:
            data = self._file.read(len(target))
        except Exception as error:
            raise InputError(
                f"{self._url}: failed after {self._place:,} bytes ({_words(error)}); what was read "
                "is not the whole file, try again"
            ) from error
        if not data and self._size is not None and self._place < self._size:
            raise InputError(
                f"{self._url}: ended after {self._place:,} of {self._size:,} bytes; what was read "
                "is not the whole file, try again"
            )
        target[: len(data)] = data
        self._place += len(data)
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _words(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
