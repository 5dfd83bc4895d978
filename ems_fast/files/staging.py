"""A folder that appears complete or not at all."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ems_fast.errors import InputError
from ems_fast.files.locks import locked


@contextmanager
def staged_folder(output: Path) -> Iterator[Path]:
    """Yield a new folder beside `output` that takes its name when the block ends well.

    If the block fails, the folder is removed; if the process is killed, the next call for the
    same `output` removes it. A lock keeps two processes from writing the same one.

    Raises:
        InputError: `output` is a file or a folder with something in it, cannot be created, is
            being written by another process, or the disk is full.
    """
    output = output.absolute()
    staging = output.with_name(f".{output.name}.partial")
    lock_path = output.with_name(f".{output.name}.lock")
    missing = [parent for parent in output.parents if not parent.exists()]
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with locked(lock_path, output, "output folder"):
            _require_empty(output)
            shutil.rmtree(staging, ignore_errors=True)  # of a process that was killed
            try:
                staging.mkdir()
                yield staging
                if output.exists():  # and is empty; not all systems rename onto it
                    output.rmdir()
                staging.rename(output)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(
                f"{output}: the disk is full; nothing was left there, free some space or give an "
                f"output folder on another disk"
            ) from error
        raise InputError(f"{output}: was not written ({error})") from error
    finally:
        if not output.exists():
            for parent in missing:
                with suppress(OSError):
                    parent.rmdir()


def _require_empty(output: Path) -> None:
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(
            f"{output}: exists and is not empty; give another output folder or remove this one"
        )
