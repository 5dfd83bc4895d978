"""One process at a time."""

from __future__ import annotations

import fcntl
from pathlib import Path
from typing import IO, Any

from ems_fast.errors import InputError


def lock_output(file: IO[Any], output: Path, other: str = "output") -> None:
    """Lock an open file, until it is closed, for the process that writes `output`.

    Raises:
        InputError: another process holds it; the message advises to give another `other`.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise InputError(
            f"{output}: another process is writing it; wait for that or give another {other}"
        ) from error
