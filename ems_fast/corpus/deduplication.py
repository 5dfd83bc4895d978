"""Finding duplicates among any number of hashes in bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_PARTITION = 1 << 18  # hashes sorted at a time
_ENTRY = np.dtype([("hash", "<u8"), ("position", "<i8")])


def flag_duplicates(path: Path, hashes: Iterable[npt.NDArray[np.uint64]], count: int) -> int:
    """Write a byte for every hash: 1 where it occurred before.

    Hashes are dealt into partitions by their value, one file each, so that equal ones meet in
    the same partition; a partition is small enough to be sorted in memory.

    Args:
        path: the file to create; partitions are put beside it for a while.
        hashes: uint64 arrays, n hashes altogether.
        count: n, at least 1.

    Returns:
        The number of duplicates.
    """
    flags = np.memmap(path, dtype=np.bool_, mode="w+", shape=(count,))
    duplicates = 0
    for entries in _partitions(path, hashes, count):
        ordered = entries[np.argsort(entries["hash"], kind="stable")]
        same = ordered["hash"][1:] == ordered["hash"][:-1]
        flags[ordered["position"][1:][same]] = True
        duplicates += int(np.count_nonzero(same))
    return duplicates


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
