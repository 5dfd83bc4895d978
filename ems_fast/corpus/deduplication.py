"""Finding duplicates among any number of hashes in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_PARTITION = 1 << 18  # hashes sorted at a time
_ENTRY = np.dtype([("hash", "<u8"), ("position", "<i8")])


class DuplicateFlags:
    """A byte a pair on disk: 1 where an earlier pair has the same hash.

    Hashes are dealt into partitions by their value, one file each, so that equal ones meet in
    the same partition; a partition is small enough to be sorted in memory.

    Args:
        path: the file to create; partitions are put beside it for a while.
        hashes: uint64 arrays, n hashes altogether.
        count: n.
    """

    def __init__(self, path: Path, hashes: Iterable[npt.NDArray[np.uint64]], count: int):
        self._path = path
        self.duplicates = 0
        flags = np.memmap(path, dtype=np.bool_, mode="w+", shape=(count,))
        for entries in _partitions(path, hashes, count):
            order = np.argsort(entries["hash"], kind="stable")
            ordered = entries[order]
            same = ordered["hash"][1:] == ordered["hash"][:-1]
            flags[ordered["position"][1:][same]] = True
            self.duplicates += int(np.count_nonzero(same))

    def read(self, start: int, count: int) -> npt.NDArray[np.bool_]:
        """Whether pairs ``start .. start + count - 1`` are duplicates."""
        return np.fromfile(self._path, dtype=np.bool_, count=count, offset=start)

    def remove(self) -> None:
        """Delete the file."""
        self._path.unlink()


def _partitions(
    path: Path, hashes: Iterable[npt.NDArray[np.uint64]], count: int
) -> Iterator[npt.NDArray[Any]]:
    """The (hash, position) entries in partitions, positions ascending within each."""
    number = -(-count // _PARTITION)
    files = [path.with_name(f"{path.name}.{index}") for index in range(number)]
    position = 0
    for chunk in hashes:
        entries = np.empty(len(chunk), dtype=_ENTRY)
        entries["hash"] = chunk
        entries["position"] = np.arange(position, position + len(chunk))
        position += len(chunk)
        partition = (chunk >> np.uint64(32)) % np.uint64(number)
        order = np.argsort(partition, kind="stable")
        bounds = np.searchsorted(partition[order], np.arange(number + 1))
        for index, file in enumerate(files):
            if bounds[index] < bounds[index + 1]:
                with file.open("ab") as out:
                    out.write(entries[order[bounds[index] : bounds[index + 1]]].tobytes())
    for file in files:
        if file.exists():
            data = file.read_bytes()
            file.unlink()
            yield np.frombuffer(data, dtype=_ENTRY)
