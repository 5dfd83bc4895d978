"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from ems_fast.errors import InputError

_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)


@contextmanager
def replacing(path: Path, *, contended: bool = False) -> Iterator[Path]:
    """A temporary path whose content becomes `path` at once, when the block ends well.

    Args:
        path: what is to appear.
        contended: other processes may write `path` at the same moment: each then has a temporary
            path of its own.

    Raises:
        InputError: the folder is missing, or the disk is full or not writable; `path` is then as
            it was before.
    """
    owner = f".{os.getpid()}" if contended else ""
    temporary = path.with_name(f".{path.name}{owner}.tmp")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except BaseException as error:
        if path.parent.is_dir():
            temporary.unlink(missing_ok=True)
        if _is_write_failure(error, temporary):
            reason = error.strerror if isinstance(error, OSError) else error
            raise InputError(
                f"{path}: cannot be written ({reason}); see to its folder and the space there, "
                "what was there before is untouched"
            ) from error
        raise


def _sync_folder(folder: Path) -> None:
    """Make the new name survive a loss of power, too."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_write_failure(error: BaseException, temporary: Path) -> bool:
    if isinstance(error, OSError):
        return error.errno in _WRITE_ERRORS or str(error.filename) == str(temporary)
    # torch and safetensors report a failed write in words.
    message = str(error).lower()
    return isinstance(error, RuntimeError | SafetensorError) and (
        "writ" in message or "no space" in message
    )
