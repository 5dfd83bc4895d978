"""A .npy file that is written piece by piece, survives a kill, and appears when it is whole."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ems_fast.errors import InputError
from ems_fast.files.arrays import map_array
from ems_fast.files.atomic import write_text
from ems_fast.files.locks import OPEN_FILES_STAY, lock_output

# Recording progress waits for the disk, so it is not done after every piece.
RECORD_SECONDS = 5.0
# The name of a partial file is known: a link of that name, laid by somebody else who may write the
# folder, must not lead to a file of ours.
_NO_LINKS = getattr(os, "O_NOFOLLOW", 0)


def partial_path(path: Path) -> Path:
    """Where the array of `path` lies until it is complete."""
    return path.with_name(f".{path.name}.partial")


def progress_path(path: Path) -> Path:
    """Where the progress of `path` is recorded."""
    return path.with_name(f".{path.name}.progress.json")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an empty one if there is no such file, or it holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a JSON file that appears whole; see `replacing`."""
    write_text(path, json.dumps(content, indent=1) + "\n")


def write_rows(file: IO[bytes], row: int, rows: int, vectors: npt.NDArray[Any]) -> None:
    """Write `vectors` [b, ·] to rows row … row + b − 1 of the `rows` rows that end `file`.

    They are written, not mapped, so that they do not count as memory of the process.
    """
    file.seek((row - rows) * vectors.itemsize * vectors.shape[1], os.SEEK_END)
    file.write(np.ascontiguousarray(vectors).data)
    file.flush()


class PartialArray:
    """The array while it is written, and the record of how far it is.

    Args:
        shape: rows and columns.
        identity: what the rows depend on; progress recorded with another one does not count.

    Attributes:
        done: rows, from the first one on, that are written.
        counts: numbers that are kept with the progress.
        restarted: progress was there, but of another identity.
    """

    _file: IO[bytes]

    def __init__(
        self, path: Path, shape: tuple[int, int], dtype: np.dtype[Any], identity: dict[str, Any]
    ):
        self.path = path
        self.shape = shape
        self.dtype = dtype
        self._partial = partial_path(path)
        self._identity = identity
        progress = read_json(progress_path(path))
        same = bool(progress) and all(progress.get(key) == identity[key] for key in identity)
        same = same and self._is_record(progress)
        self.restarted = bool(progress) and not same
        self.done: int = progress["rows_done"] if same else 0
        self.counts = Counter[str](progress["counts"] if same else {})
        self._recorded = time.monotonic()

    def _is_record(self, progress: dict[str, Any]) -> bool:
        """Whether it tells of rows of this array, which are there as far as can be seen."""
        done, counts = progress.get("rows_done"), progress.get("counts")
        if not (type(done) is int and 0 <= done <= self.shape[0] and isinstance(counts, dict)):
            return False
        if not self._partial.exists():
            return all(type(number) is int for number in counts.values())
        try:
            there = map_array(self._partial)
        except InputError:
            return done == 0
        same = there.shape == self.shape and there.dtype == self.dtype
        return same and all(type(number) is int for number in counts.values())

    @property
    def complete(self) -> bool:
        """All rows are written and the file has its name."""
        return self.done == self.shape[0] and self.path.exists() and not self._partial.exists()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Create the partial file, or go on with it; it gets its name when the block ends well.

        Raises:
            InputError: another process is writing it, the folder is missing or not writable, or
                there is not enough space.
        """
        if self.done and not self._partial.exists():
            self.done = 0
            self.counts.clear()
        try:
            # Neither truncated nor new: it may belong to a process that holds the lock.
            flags = os.O_RDWR | os.O_CREAT | _NO_LINKS
            descriptor = os.open(self._partial, flags, 0o666)
            with open(descriptor, "r+b") as self._file:
                lock_output(self._file, self._partial, self.path)
                if self.done == 0:
                    self._begin()
                try:
                    yield
                    self._record()
                    if OPEN_FILES_STAY:
                        self._file.close()
                    self._partial.replace(self.path)
                except BaseException:
                    if self.done:
                        with suppress(OSError, InputError):  # the older record stays
                            self._record()
                    else:
                        self._partial.unlink(missing_ok=True)
                    raise
        except OSError as error:
            raise InputError(
                f"{self.path}: cannot be written ({error.strerror}); see to its folder and the "
                "space there, then run the same command again, which goes on where this one stopped"
            ) from error

    def _begin(self) -> None:
        # The old record goes first: it must never stand beside an array that it does not describe.
        progress_path(self.path).unlink(missing_ok=True)
        self._file.truncate(0)
        needed = self.dtype.itemsize * self.shape[0] * self.shape[1]
        free = shutil.disk_usage(self.path.parent).free
        if needed > free:
            self._partial.unlink()
            raise InputError(
                f"{self.path}: needs {needed / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free "
                "there; free some space or give an output on another disk"
            )
        np.lib.format.open_memmap(self._partial, "w+", self.dtype, self.shape)

    def advance(self, rows: int, **counts: int) -> None:
        """Note that `rows` more are written; record it every few seconds."""
        self.done += rows
        self.counts.update(counts)
        if time.monotonic() - self._recorded >= RECORD_SECONDS:
            self._record()

    def _record(self) -> None:
        """Record the progress, once what any process wrote to the file is on the disk."""
        os.fsync(self._file.fileno())
        record = {**self._identity, "rows_done": self.done, "counts": self.counts}
        write_json(progress_path(self.path), record)
        self._recorded = time.monotonic()
