"""A model without layers where it only encodes: its table, as it is stored, and one kernel."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from ems_fast import _encoding
from ems_fast.files.tensors import MappedTensors
from ems_fast.model.config import ModelConfig
from ems_fast.ops.isa import choose_isa
from ems_fast.ops.threads import num_threads

# The numbers of the storage types in the kernel (csrc/encoding/pooling.h).
_TYPES = {
    np.dtype(np.float32): 0,
    np.dtype(np.uint16): 1,
    np.dtype(np.int8): 2,
    np.dtype(np.uint8): 3,
}
_NAME = "encoder.tokens.weight"
_PHRASES = "encoder.phrases"

Ints = npt.NDArray[np.int64]


@cache
def _kernels() -> ModuleType:
    choose_isa(_encoding)
    return _encoding


@dataclass(frozen=True)
class TokenTable:
    """A table of the vectors of tokens and phrases, and the mean of a sentence's rows.

    Attributes:
        rows: [R, D], contiguous: float32, bfloat16 as the uint16 of its bits, or int8; or of 4 bits
            uint8 [R, D / 2], as `quantise` packs them.
        scales: of int8 and of 4 bits, float32 [R]: what a row is multiplied by.
        phrases: int64 [K], ascending: the keys of the phrases, which have the last K rows.
    """

    rows: npt.NDArray[Any]
    scales: npt.NDArray[np.float32] | None = None
    phrases: npt.NDArray[np.int64] | None = None

    @classmethod
    def of_file(cls, tensors: MappedTensors, config: ModelConfig) -> TokenTable:
        """The table of a run's weights; it stays in its file.

        Raises:
            ValueError: the file holds none of those sizes.
        """
        rows, scales = tensors.get(_NAME), tensors.get(f"{_NAME}_scale")
        if rows is None:
            raise ValueError(f"there is no {_NAME}")
        count = config.vocab_size + config.phrases
        shape = count, config.width // 2 if rows.dtype == np.uint8 else config.width
        if rows.shape != shape or rows.dtype not in _TYPES:
            raise ValueError(f"{_NAME} is {rows.dtype} of shape {rows.shape}, expected {shape}")
        if (rows.dtype.itemsize == 1) != (scales is not None):
            raise ValueError(f"{_NAME} and {_NAME}_scale do not go together")
        if scales is not None and (scales.shape != shape[:1] or scales.dtype != np.float32):
            raise ValueError(f"{_NAME}_scale is not float32 [{count}]")
        phrases = tensors.get(_PHRASES)
        if (phrases is None) != (config.phrases == 0):
            raise ValueError(f"{_PHRASES} does not go with {config.phrases} phrases")
        if phrases is not None:
            if phrases.shape != (config.phrases,) or phrases.dtype != np.int64:
                raise ValueError(f"{_PHRASES} is not int64 [{config.phrases}]")
            if (
                phrases[0] < 0
                or phrases[-1] >= config.vocab_size**2
                or (np.diff(phrases) < 1).any()
            ):
                raise ValueError(f"{_PHRASES} are not ascending pairs of tokens")
        return cls(rows, scales, phrases)

    @property
    def width(self) -> int:
        """D."""
        columns = int(self.rows.shape[1])
        return 2 * columns if self.rows.dtype == np.uint8 else columns

    @property
    def bits(self) -> int:
        """Of a stored number."""
        return 4 if self.rows.dtype == np.uint8 else 8 * self.rows.dtype.itemsize

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """What `of_file` reads."""
        named = {_NAME: self.rows, f"{_NAME}_scale": self.scales, _PHRASES: self.phrases}
        return {name: array for name, array in named.items() if array is not None}

    @cached_property
    def _begins(self) -> Ints | None:
        """Where the phrases of each first token begin, int64 [V + 1]."""
        if self.phrases is None:
            return None
        vocab_size = len(self.rows) - len(self.phrases)
        return np.searchsorted(self.phrases, np.arange(vocab_size + 1) * vocab_size)

    def float32(self) -> npt.NDArray[np.float32]:
        """A copy of all rows in float32."""
        if self.rows.dtype == np.uint16:
            return (self.rows.astype(np.uint32) << 16).view(np.float32)
        if self.rows.dtype == np.uint8:
            rows = np.concatenate([self.rows & 15, self.rows >> 4], axis=1).astype(np.float32) - 8
        else:
            rows = self.rows.astype(np.float32)
        if self.scales is not None:
            rows *= self.scales[:, None]
        return rows

    def means(
        self, ids: Ints, starts: Ints, lengths: Ints, dim: int, *, normalize: bool = False
    ) -> npt.NDArray[np.float32]:
        """The mean of every sentence's rows in their first `dim` columns, float32 [B, dim].

        Sentence i is ``ids[starts[i]:starts[i] + lengths[i]]``, its tokens, to which their phrases
        are added; without a token it gets the zero vector. With `normalize` the means are scaled to
        length 1. The interpreter's lock is free meanwhile.

        Raises:
            ValueError: an id that is no token.
        """
        ids, starts, lengths = (np.ascontiguousarray(x, np.int64) for x in (ids, starts, lengths))
        found = np.empty((len(lengths), dim), np.float32)
        _kernels().means(
            found.ctypes.data,
            self.rows.ctypes.data,
            None if self.scales is None else self.scales.ctypes.data,
            _TYPES[self.rows.dtype],
            len(self.rows),
            self.width,
            None if self.phrases is None else self.phrases.ctypes.data,
            None if self._begins is None else self._begins.ctypes.data,
            0 if self.phrases is None else len(self.phrases),
            ids.ctypes.data,
            starts.ctypes.data,
            lengths.ctypes.data,
            len(lengths),
            dim,
            normalize,
            num_threads(),
        )
        return found
