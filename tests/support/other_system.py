"""A process as on a system with less than Linux: ``python -m support.other_system INPUTS OUTPUT``.

What only some systems have is taken from the modules before the package is imported: names of
`os` and `signal`, modules such as `fcntl`; locks are those of Windows, and as there a file that is
open or mapped can be neither renamed nor removed. Then every command runs.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import types
from pathlib import Path
from typing import Any

from support.victim import COMMANDS

MODULES = ("fcntl", "grp", "pwd", "resource", "syslog", "termios")
OS_NAMES = (
    "O_CLOEXEC", "O_DIRECTORY", "chown", "fchmod", "fchown", "fork", "forkpty", "geteuid", "getuid",
    "mkfifo", "pread", "preadv", "pwrite", "pwritev", "posix_fadvise", "posix_fallocate",
    "register_at_fork", "sched_getaffinity", "sched_setaffinity", "sendfile", "setsid", "uname",
)  # fmt: skip
SIGNALS = ("SIGALRM", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "alarm", "setitimer")


def take_away() -> None:
    """Leave what all systems have. What was imported before keeps what it took."""
    windows = types.ModuleType("msvcrt")
    windows.LK_NBLCK = 2
    flags = fcntl.LOCK_EX | fcntl.LOCK_NB
    windows.locking = lambda descriptor, mode, size: fcntl.lockf(
        descriptor, flags, size, os.lseek(descriptor, 0, os.SEEK_CUR)
    )
    sys.modules["msvcrt"] = windows
    for name in MODULES:
        sys.modules[name] = None  # type: ignore[assignment]  # then its import fails
    for owner, names in ((os, OS_NAMES), (signal, SIGNALS)):
        for name in names:
            if hasattr(owner, name):
                delattr(owner, name)
    os.name = "nt"
    try:
        import ems_fast.files.locks
    finally:
        os.name = "posix"  # or pathlib would have other paths
    assert ems_fast.files.locks.OPEN_FILES_STAY
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Refuse, as Windows does, to rename or remove what is open or mapped."""
    if event not in ("os.rename", "os.remove"):
        return
    path, folder = arguments[0], arguments[-1] if event == "os.remove" else arguments[2]
    where = f"/proc/self/fd/{folder}" if folder != -1 else os.getcwd()
    full = os.path.realpath(os.path.join(os.path.realpath(where), os.fsdecode(path)))
    for descriptor in os.listdir("/proc/self/fd"):
        if os.path.realpath(f"/proc/self/fd/{descriptor}") == full and os.path.isfile(full):
            raise PermissionError(13, "The file is being used", full)
    if f" {full}\n" in Path("/proc/self/maps").read_text(encoding="utf-8"):
        raise PermissionError(13, "The file is mapped", full)


def main(inputs: Path, output: Path) -> None:
    """Every command once, and those again that go on where they were."""
    # Libraries know what system they are on, and may look for what they expect there.
    import torch._dynamo
    import torch.utils.tensorboard  # noqa: F401

    take_away()
    import ems_fast

    for name, command in COMMANDS.items():
        folder = output / name
        folder.mkdir()
        command(inputs, folder)
        left = [path for path in folder.rglob(".*") if path.is_file()]
        assert not left, left
    ems_fast.train(
        None, output / "train" / "run", resume=True, max_steps=8, device="cpu", progress=False
    )
    encoder = ems_fast.load(output / "train" / "run", device="cpu")
    ems_fast.encode_file(
        encoder, inputs / "lines.txt", output / "two.npy", workers=2, progress=False
    )
    print("all done")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
