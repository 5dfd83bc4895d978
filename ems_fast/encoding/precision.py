"""Smaller vectors: fewer dimensions, bytes or single bits in place of floats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ems_fast.errors import InputError, check, check_one_of

Precision = Literal["float32", "int8", "ubinary"]

_DTYPES = {"float32": np.float32, "int8": np.int8, "ubinary": np.uint8}
# Rows with no entry above this are zero.
_TINY = 1e-30


@dataclass(frozen=True)
class VectorForm:
    """What is kept of a vector.

    Attributes:
        dim: dimensions, the first ones.
        precision: how each is stored.
    """

    dim: int
    precision: Precision

    @classmethod
    def of(cls, dim: int | None, precision: Precision, D: int) -> VectorForm:
        """The form of vectors of width D; `dim` None keeps all of it.

        Raises:
            InputError: an unknown precision, more dimensions than there are, or bits that do not
                fill bytes.
        """
        check_one_of("precision", precision, get_args(Precision))
        kept = D if dim is None else dim
        whole = isinstance(kept, int | np.integer) and not isinstance(kept, bool)
        check(whole and 1 <= kept <= D, "dim", dim, f"None or a whole number from 1 to {D}")
        if precision == "ubinary" and kept % 8:
            raise InputError(
                f"dim: got {kept} with precision='ubinary', which keeps eight dimensions a byte; "
                "give a multiple of 8"
            )
        return cls(int(kept), precision)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of an array of such vectors."""
        return np.dtype(_DTYPES[self.precision])

    @property
    def columns(self) -> int:
        """The columns of an array of such vectors."""
        return self.dim // 8 if self.precision == "ubinary" else self.dim

    def stored(self, vectors: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
        """Float32 [n, dim] as it is kept, [n, columns].

        ``int8``: row r is ``round(127 · v_r / max |v_r|)``. Every vector has a scale of its own, so
        none has to be fitted to a sample, and what cosines see is nearly kept; lengths are not.
        ``ubinary``: a bit that says whether an entry is positive, the first dimension in the
        highest bit of the first byte, as ``numpy.packbits`` and faiss have it.
        """
        if self.precision == "ubinary":
            return np.packbits(vectors > 0, axis=1)
        if self.precision == "int8":
            largest = np.abs(vectors).max(axis=1, keepdims=True)
            scales = np.where(largest > _TINY, 127 / np.maximum(largest, _TINY), 0)
            return np.rint(vectors * scales).astype(np.int8)
        return vectors
