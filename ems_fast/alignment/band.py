"""The part of the grid of two documents' lines that an alignment is searched in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Path:
    """An alignment as the corners of its blocks.

    Attributes:
        source: int64 [b + 1], from 0 to the number of source lines, never falling: block k is of
            the source lines ``source[k]`` to ``source[k + 1] - 1``, of none if both are equal.
        target: int64 [b + 1], the same for the target.
    """

    source: IntArray
    target: IntArray


@dataclass(frozen=True)
class Band:
    """Cells (i, j): i lines of the source and j of the target are aligned.

    Attributes:
        begins: int64 [n + 1], the first column of each row; never falls.
        offsets: int64 [n + 2], where each row's cells begin; the last is the number of cells.
    """

    begins: IntArray
    offsets: IntArray

    @classmethod
    def of_columns(cls, begins: IntArray, ends: IntArray) -> Band:
        """Row i holds the columns ``begins[i]`` to ``ends[i] - 1``."""
        offsets = np.zeros(len(begins) + 1, dtype=np.int64)
        np.cumsum(ends - begins, out=offsets[1:])
        return cls(np.ascontiguousarray(begins), offsets)

    @classmethod
    def whole(cls, n: int, m: int) -> Band:
        """Every cell of documents of n and m lines."""
        begins = np.zeros(n + 1, dtype=np.int64)
        return cls.of_columns(begins, begins + m + 1)

    @classmethod
    def around(cls, path: Path, radius: int) -> Band:
        """The cells at most `radius` rows and columns from a path."""
        n, m = int(path.source[-1]), int(path.target[-1])
        rows = np.arange(n + 1)
        # What the path touches in a row: up to the corner before it, and on to the one after it.
        before = np.searchsorted(path.source, rows, side="left")
        after = np.searchsorted(path.source, rows, side="right") - 1
        exact = path.source[before] == rows
        first = path.target[np.where(exact, before, before - 1)]
        last = path.target[np.where(exact, after, after + 1)]
        begins = first[np.maximum(rows - radius, 0)] - radius
        ends = last[np.minimum(rows + radius, n)] + radius + 1
        return cls.of_columns(np.maximum(begins, 0), np.minimum(ends, m + 1))
