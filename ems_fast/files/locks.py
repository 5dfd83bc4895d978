"""One process at a time, on every system that Python knows locks of."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from ems_fast.errors import InputError

# Windows neither renames nor removes a file that is open.
OPEN_FILES_STAY = os.name == "nt"
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)
_WITHOUT_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK)

try:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

except ImportError:
    import msvcrt

    # Bytes are locked there, which nobody may read then: one beyond all content, of at most 2³¹.
    _BYTE = (1 << 31) - 2

    def _lock(descriptor: int) -> None:
        place = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, _BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        finally:
            os.lseek(descriptor, place, os.SEEK_SET)


def try_lock(descriptor: int) -> bool:
    """Lock an open file until it is closed; False where another process holds it.

    The system lets go of it when the process ends, however that ends. A file system without locks
    keeps nobody out.
    """
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno not in _WITHOUT_LOCKS:
            raise
    return True


def lock_output(file: IO[Any], path: Path, output: Path, other: str = "output") -> None:
    """Lock an open file, until it is closed, for the process that writes `output`.

    Args:
        path: where the file was opened. It must still be there: who had the lock before may have
            removed it, and then this lock would keep nobody out.
        other: what the message advises to give another of.

    Raises:
        InputError: another process holds it, or just did.
    """
    if not try_lock(file.fileno()):
        raise InputError(
            f"{output}: another process is writing it; wait for that or give another {other}"
        )
    try:
        same = os.path.samestat(os.stat(path), os.fstat(file.fileno()))
    except FileNotFoundError:
        same = False
    if not same:
        raise InputError(f"{output}: another process just wrote it; try again")


@contextmanager
def locked(path: Path, output: Path, other: str = "output") -> Iterator[None]:
    """Hold a lock file for the process that writes `output`; it is removed when the block ends.

    One that a killed process left is taken over, and one that cannot be removed stays.

    Raises:
        InputError: it cannot be made, or another process holds it; see `lock_output`.
    """
    try:
        file = path.open("w")
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror})") from error
    with file:
        lock_output(file, path, output, other)
        try:
            yield
        finally:
            if OPEN_FILES_STAY:
                file.close()
            with suppress(OSError):
                path.unlink()
