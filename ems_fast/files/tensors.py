"""Tensors of a ``.safetensors`` file as they lie there: nothing is read before it is used.

The library `safetensors` copies a tensor when it is asked for, and its reader for NumPy has no
bfloat16. The format: eight bytes, the length of a header; the header in JSON, with every tensor's
dtype, shape and place; the tensors.
"""

from __future__ import annotations

import json
import math
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ems_fast.errors import InputError

# bfloat16 is the upper half of a float32; NumPy has no name for it.
DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "BF16": np.dtype("<u2"),
    "I8": np.dtype("<i1"),
    "U8": np.dtype("<u1"),
    "I64": np.dtype("<i8"),
}


class MappedTensors:
    """A memory-mapped ``.safetensors`` file.

    Attributes:
        content: all its bytes.

    Raises:
        InputError: the file cannot be read, or is no such file.
    """

    def __init__(self, path: Path):
        self.path = path
        try:
            with path.open("rb") as file:
                self.content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:  # of an empty file, a ValueError
            reason = error.strerror if isinstance(error, OSError) else "it is empty"
            raise InputError(f"{path}: cannot be read ({reason}); is the run finished?") from error
        self._start = 8 + int.from_bytes(self.content[:8], "little")
        try:
            header = self.content[8 : self._start]
            if not 8 < self._start <= len(self.content):
                raise ValueError("its header is cut off")
            self._found: dict[str, Any] = json.loads(header)
            if not isinstance(self._found, dict):
                raise ValueError("its header is no object")
        except (ValueError, RecursionError) as error:
            raise self._damaged(error) from error

    def get(self, name: str) -> npt.NDArray[Any] | None:
        """A read-only view of a tensor, bfloat16 as uint16; None if there is none of that name.

        Raises:
            InputError: it lies outside of the file, or is of a dtype that is none of `DTYPES`.
        """
        entry = self._found.get(name)
        if entry is None:
            return None
        try:
            dtype, shape = entry["dtype"], tuple(map(int, entry["shape"]))
            first, stop = map(int, entry["data_offsets"])
            if dtype not in DTYPES:
                raise ValueError(f"{name} is of dtype {dtype}")
            if min(shape, default=0) < 0:
                raise ValueError(f"{name} is of shape {shape}")
            count = math.prod(shape)
            size = count * DTYPES[dtype].itemsize
            if not 0 <= first <= stop <= len(self.content) - self._start or stop - first != size:
                raise ValueError(f"{name} is cut off")
            flat: npt.NDArray[Any] = np.frombuffer(
                self.content, DTYPES[dtype], count, self._start + first
            )
            # A copy where the file has put it at no multiple of its size.
            return np.require(flat, requirements="A").reshape(shape)
        except (ValueError, KeyError, TypeError, OverflowError) as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> InputError:
        return InputError(f"{self.path}: cannot be read ({error}); is the run finished?")
