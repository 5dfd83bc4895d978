"""Arrays of a ``.npy`` file as they lie there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ems_fast.errors import InputError

_MAGIC = b"\x93NUMPY"


def map_array(path: Path, name: str | None = None) -> npt.NDArray[Any]:
    """A read-only memory map; no code in the file is run, whatever it holds.

    Args:
        path: the file.
        name: what messages call it; None for its path.

    Raises:
        InputError: the file cannot be read, is no ``.npy`` file, or is cut off.
    """
    called = str(path) if name is None else name
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise ValueError("it does not begin like one")
        found: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # a header is parsed like code, and fails in as many ways
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise InputError(f"{called}: cannot be read as a .npy array ({reason})") from error
    return found
