"""Vectors on disk: one .npy file, or shards and a manifest that says how they fit together."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ems_fast.errors import InputError
from ems_fast.files.arrays import map_array

FORMAT = 1


def shard_path(output: Path, rank: int, world: int) -> Path:
    """The file of one of `world` shards: ``X.00000-of-00004.npy`` for ``X.npy``."""
    return output.with_name(f"{output.stem}.{rank:05d}-of-{world:05d}.npy")


def manifest_path(output: Path) -> Path:
    """The manifest of shards: ``X.npy.json`` for ``X.npy``."""
    return output.with_name(f"{output.name}.json")


def holds_vectors(dtype: np.dtype[Any]) -> bool:
    """Whether arrays of a dtype can be vectors: any floats, int8, or bits in uint8."""
    return np.issubdtype(dtype, np.floating) or dtype in (np.int8, np.uint8)


@dataclass(frozen=True)
class Embeddings:
    """Rows of several memory-mapped shards as one array [n, D], read only.

    Index it by a row number, a slice or an array of row numbers; only what is asked for is read.
    ``numpy.asarray`` reads all of it.

    Attributes:
        parts: arrays [n_i, D] of one dtype, in order; of bits, [n_i, D / 8].
        starts: the first row of each part.
        shape: n and D.
    """

    parts: tuple[npt.NDArray[Any], ...]
    starts: tuple[int, ...]
    shape: tuple[int, int]

    @classmethod
    def of(cls, parts: Sequence[npt.NDArray[Any]]) -> Embeddings:
        """The view of one or more arrays of one width and dtype."""
        ends = np.cumsum([len(part) for part in parts]).tolist()
        return cls(tuple(parts), (0, *ends[:-1]), (ends[-1], parts[0].shape[1]))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of all parts."""
        return self.parts[0].dtype

    @property
    def ndim(self) -> int:
        """Always 2."""
        return 2

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(
        self, key: int | np.integer | slice | Sequence[int] | npt.NDArray[Any]
    ) -> npt.NDArray[Any]:
        if isinstance(key, slice):
            start, stop, step = key.indices(len(self))
            if step == 1:
                return self._range(start, stop)
            key = np.arange(start, stop, step)
        rows = np.asarray(key)
        if rows.dtype == np.bool_ and rows.shape == (len(self),):
            rows = np.flatnonzero(rows)
        if rows.ndim > 1 or not (np.issubdtype(rows.dtype, np.integer) or rows.size == 0):
            raise IndexError(
                "embeddings are indexed by a row number, a slice, or an array of row numbers"
            )
        taken = self._take(np.atleast_1d(rows).astype(np.int64))
        return taken if rows.ndim else taken[0]

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[Any]:
        if copy is False:
            raise ValueError("shards can only become one array by copying")
        return self._range(0, len(self)).astype(dtype or self.dtype, copy=False)

    def _range(self, start: int, stop: int) -> npt.NDArray[Any]:
        """Rows start … stop − 1; no copy is made within one shard."""
        pieces = []
        for first, part in zip(self.starts, self.parts, strict=True):
            low, high = max(start - first, 0), min(stop - first, len(part))
            if low < high:
                pieces.append(part[low:high])
        if not pieces:
            return np.empty((0, self.shape[1]), self.dtype)
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    def _take(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        n = len(self)
        if len(rows) and (rows.min() < -n or rows.max() >= n):
            raise IndexError(f"there are {n} rows, one of {rows.min()} … {rows.max()} is not there")
        rows = np.where(rows < 0, rows + n, rows)
        taken = np.empty((len(rows), self.shape[1]), self.dtype)
        # Of shards with the same start only the last holds rows, and "right" finds that one.
        owner = np.searchsorted(self.starts, rows, side="right") - 1
        for i in np.unique(owner):
            here = owner == i
            taken[here] = self.parts[i][rows[here] - self.starts[i]]
        return taken


def open_embeddings(path: str | Path) -> npt.NDArray[Any] | Embeddings:
    """Open vectors without reading them.

    Args:
        path: a ``.npy`` file, or the manifest ``X.npy.json`` of shards; ``X.npy`` finds that
            manifest too, if there is no such file.

    Returns:
        A read-only memory-mapped array [n, D], or an array-like view of the shards.

    Raises:
        InputError: a missing or damaged file, an array that is not [n, D] of floats, or shards
            that do not fit the manifest.
    """
    path = Path(path)
    if path.suffix != ".json" and not path.exists() and manifest_path(path).exists():
        path = manifest_path(path)
    return _open_shards(path) if path.suffix == ".json" else _open_array(path)


def _open_array(path: Path) -> npt.NDArray[Any]:
    array = map_array(path)
    if array.ndim != 2:
        raise InputError(f"{path}: holds no array [n, D]; give a file that `encode` wrote")
    if not holds_vectors(array.dtype):
        raise InputError(
            f"{path}: has dtype {array.dtype}, expected a float array [n, D], int8 or bits in uint8"
        )
    return array


def _open_shards(path: Path) -> Embeddings:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        found = manifest["format"]
        rows, columns = int(manifest["rows"]), int(manifest["dimension"])
        if manifest.get("dtype") == "uint8":  # bits
            columns //= 8
        shards = [(path.parent / shard["file"], int(shard["rows"])) for shard in manifest["shards"]]
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path}: is no manifest of embeddings ({error!r})") from error
    if found != FORMAT:
        raise InputError(f"{path}: has format {found!r}, this version reads {FORMAT}")
    parts = []
    for file, count in shards:
        part = _open_array(file)
        if part.shape != (count, columns):
            raise InputError(
                f"{file}: has shape {part.shape}, but {path.name} says {(count, columns)}; "
                "encode it again"
            )
        parts.append(part)
    if not parts or sum(len(part) for part in parts) != rows:
        raise InputError(f"{path}: its shards do not add up to {rows} rows; encode them again")
    return Embeddings.of(parts)
