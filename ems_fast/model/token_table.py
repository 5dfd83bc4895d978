"""A model without layers where it only encodes: its table, as it is stored, and one kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ems_fast import _encoding
from ems_fast.files.tensors import MappedTensors
from ems_fast.ops.threads import num_threads

# The numbers of the storage types in the kernel (csrc/encoding/pooling.h).
_TYPES = {np.dtype(np.float32): 0, np.dtype(np.uint16): 1, np.dtype(np.int8): 2}
_NAME = "encoder.tokens.weight"

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class TokenTable:
    """A table of token vectors, [V, D], and the mean of a sentence's rows.

    Attributes:
        rows: [V, D], contiguous: float32, bfloat16 as the uint16 of its bits, or int8.
        scales: of int8, float32 [V]: what a row is multiplied by.
    """

    rows: npt.NDArray[Any]
    scales: npt.NDArray[np.float32] | None = None

    @classmethod
    def of_file(cls, tensors: MappedTensors, shape: tuple[int, int]) -> TokenTable:
        """The table of a run's weights; it stays in its file.

        Raises:
            ValueError: the file holds none of that shape.
        """
        rows, scales = tensors.get(_NAME), tensors.get(f"{_NAME}_scale")
        if rows is None:
            raise ValueError(f"there is no {_NAME}")
        if rows.shape != shape:
            raise ValueError(f"{_NAME} is of shape {rows.shape}, expected {shape}")
        if (rows.dtype == np.int8) != (scales is not None):
            raise ValueError(f"{_NAME} and {_NAME}_scale do not go together")
        if scales is not None and (scales.shape != shape[:1] or scales.dtype != np.float32):
            raise ValueError(f"{_NAME}_scale is not float32 [{shape[0]}]")
        return cls(rows, scales)

    def float32(self) -> npt.NDArray[np.float32]:
        """A copy of all rows in float32."""
        if self.rows.dtype == np.uint16:
            return (self.rows.astype(np.uint32) << 16).view(np.float32)
        rows = self.rows.astype(np.float32)
        if self.scales is not None:
            rows *= self.scales[:, None]
        return rows

    def means(
        self, ids: Ints, starts: Ints, lengths: Ints, dim: int, *, normalize: bool = False
    ) -> npt.NDArray[np.float32]:
        """The mean of every sentence's rows in their first `dim` columns, float32 [B, dim].

        Sentence i is ``ids[starts[i]:starts[i] + lengths[i]]``; without a token it gets the zero
        vector. With `normalize` the means are scaled to length 1. The interpreter's lock is free
        meanwhile.

        Raises:
            ValueError: an id that is no row.
        """
        V, D = self.rows.shape
        ids, starts, lengths = (np.ascontiguousarray(x, np.int64) for x in (ids, starts, lengths))
        found = np.empty((len(lengths), dim), np.float32)
        _encoding.means(
            found.ctypes.data,
            self.rows.ctypes.data,
            None if self.scales is None else self.scales.ctypes.data,
            _TYPES[self.rows.dtype],
            V,
            D,
            ids.ctypes.data,
            starts.ctypes.data,
            lengths.ctypes.data,
            len(lengths),
            dim,
            normalize,
            num_threads(),
        )
        return found
