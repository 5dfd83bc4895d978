"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import glob
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from ems_fast.errors import InputError
from ems_fast.files.locks import OPEN_FILES_STAY, try_lock

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
    with (
        write_errors(path, ", what was there before is untouched"),
        _temporary(path) as (temporary, descriptor),
    ):
        yield temporary
        # safetensors writes files that only their owner may read.
        temporary.chmod(os.fstat(descriptor.fileno()).st_mode & 0o777)
        _sync(temporary)
        if OPEN_FILES_STAY:
            descriptor.close()
        temporary.replace(path)
        _sync_folder(path.parent)


@contextmanager
def write_errors(path: Path, rest: str = "") -> Iterator[None]:
    """Errors of a disk while the block writes `path`, as `InputError`.

    Args:
        rest: what its message says last.
    """
    try:
        yield
    except OSError as error:
        of_temporary = str(error.filename).startswith(str(path.with_name(f".{path.name}.")))
        if error.errno not in _WRITE_ERRORS and not of_temporary:
            raise
        raise InputError(
            f"{path}: cannot be written ({error.strerror}); see to its folder and the space "
            f"there{rest}"
        ) from error


def write_text(path: Path, text: str) -> None:
    """Make `text` the content of `path`, in UTF-8; see `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def temporary_files(path: Path) -> list[Path]:
    """Where `replacing` writes, or was killed while it wrote."""
    return list(path.parent.glob(f".{glob.escape(path.name)}.*tmp"))


@contextmanager
def _temporary(path: Path) -> Iterator[tuple[Path, IO[bytes]]]:
    """A new file beside `path`, and it opened: it is locked until that is closed."""
    for leftover in temporary_files(path):
        _remove_unless_in_use(leftover)
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        file = temporary.open("xb")
        try_lock(file.fileno())
        if temporary.exists():
            break
        file.close()  # another process took it for a leftover before it was locked
    try:
        yield temporary, file
    finally:
        if OPEN_FILES_STAY:
            file.close()
        temporary.unlink(missing_ok=True)
        file.close()


def _remove_unless_in_use(leftover: Path) -> None:
    with suppress(OSError):
        if OPEN_FILES_STAY:
            leftover.unlink()
            return
        with leftover.open("rb") as file:
            if try_lock(file.fileno()):
                leftover.unlink()


def _sync(path: Path) -> None:
    with path.open("r+b") as file:  # not all systems can for a file that is opened to be read
        os.fsync(file.fileno())


def _sync_folder(path: Path) -> None:
    """See that a loss of power does not take a new name away, where a folder can be opened."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
