"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from safetensors import SafetensorError

from ems_fast.errors import InputError

_WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path whose content becomes `path` at once, when the block ends well.

    Every call has a temporary path of its own, so that several processes may write `path` at the
    same moment; the last one stays. What a process that was killed left is removed.

    Raises:
        InputError: the folder is missing, or the disk is full or not writable; `path` is then as
            it was before.
    """
    try:
        with _temporary(path) as temporary:
            yield temporary
            _sync(temporary)
            temporary.replace(path)
            _sync(path.parent)  # or a loss of power could take the new name away
    except (OSError, RuntimeError, SafetensorError) as error:
        if not _is_write_failure(error, path):
            raise
        reason = error.strerror if isinstance(error, OSError) else error
        raise InputError(
            f"{path}: cannot be written ({reason}); see to its folder and the space there, "
            "what was there before is untouched"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Make `text` the content of `path`, in UTF-8; see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def temporary_files(path: Path) -> list[Path]:
    """Where `replacing` writes, or was killed while it wrote."""
    return list(path.parent.glob(f".{glob.escape(path.name)}.*tmp"))


@contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """A new file beside `path`, locked while it is in use."""
    for leftover in temporary_files(path):
        with suppress(OSError), leftover.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while a process writes it
            leftover.unlink()
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        descriptor = os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        with suppress(OSError):  # a file system without locks: leftovers stay there
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if temporary.exists():
            break
        os.close(descriptor)  # another process took it for a leftover before it was locked
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_write_failure(error: Exception, path: Path) -> bool:
    if isinstance(error, OSError):
        begin = str(path.with_name(f".{path.name}."))
        return error.errno in _WRITE_ERRORS or str(error.filename).startswith(begin)
    # torch and safetensors report a failed write in words.
    message = str(error).lower()
    return "writ" in message or "no space" in message
