"""The cheapest path through a band: blocks of lines and lines left alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ems_fast.alignment.band import Band, Path
from ems_fast.ops.native import kernels
from ems_fast.ops.threads import num_threads

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Side:
    """One document of L lines, as blocks of 1 to S lines.

    Attributes:
        vectors: float32 [S, L, D], of length 1 or zero: ``vectors[s, i]`` is of the lines i to
            i + s; those that would go beyond the end are never read.
        distances: float32 [S, L]: how far each is from the other document on average, in
            1 − cosine; positive.
        lengths: float32 [S, L]: how long each is, in units of cost; see `log_lengths`.
    """

    vectors: FloatArray
    distances: FloatArray
    lengths: FloatArray

    def __len__(self) -> int:
        return int(self.vectors.shape[1])


def cheapest_path(source: Side, target: Side, band: Band, skip: float) -> tuple[Path, float]:
    """The path from the first cell to the last that costs least, and what it costs.

    A block of n and m lines, 1 to S of each, costs ``n m ((1 − cosine) / d + |l|)``, where d is the
    mean of its two `distances` (Thompson and Koehn 2019, equation 2) and l the difference of its
    two `lengths`; a line that is left alone costs `skip`. Time and memory go with the cells of the
    band; other Python threads run meanwhile.
    """
    S, n, D = source.vectors.shape
    room = n + len(target) + 1
    corners = np.empty((2, room), dtype=np.int64)
    total = np.empty(1, dtype=np.float64)
    inputs = [
        np.ascontiguousarray(array)
        for array in (
            source.vectors, source.distances, source.lengths,
            target.vectors, target.distances, target.lengths, band.begins, band.offsets,
        )
    ]  # fmt: skip
    count = kernels().align_path(
        *(array.ctypes.data for array in (*corners, total)),
        *(array.ctypes.data for array in inputs),
        n, len(target), S, D, skip, num_threads(),
    )  # fmt: skip
    ends = np.ascontiguousarray(corners[:, :count][:, ::-1])
    return Path(ends[0], ends[1]), float(total[0])
