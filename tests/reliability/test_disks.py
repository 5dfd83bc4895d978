"""A disk that is full or can only be read, as the system has them."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.snapshot import snapshot
from support.victim import COMMANDS, Victims

FEW = ("train", "encode")
commands = pytest.mark.parametrize(
    "command", [pytest.param(c, marks=() if c in FEW else pytest.mark.slow) for c in COMMANDS]
)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """The folder of a file system of its own."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "none", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", folder], check=True)


def remount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", disk], check=True)


@commands
def test_more_space_and_the_same_command_goes_on(
    attacked: Victims, inputs: Path, tmp_path: Path, disk: Path, command: str
) -> None:
    roomy = tmp_path / "roomy"
    roomy.mkdir()
    assert attacked.run(command, inputs, roomy).code == 0
    wanted = snapshot(roomy)
    size = sum(path.stat().st_size for path in roomy.rglob("*") if path.is_file())
    full = 0
    for share in (0.1, 0.3, 0.6, 0.9):
        output = disk / f"{share}"
        output.mkdir()
        remount(disk, f"size={max(int(share * size) >> 10, 4)}k")
        end = attacked.run(command, inputs, output)
        assert end.code in (0, 2), end
        if end.code:
            full += 1
            assert "space" in end.said.splitlines()[-1], end
        remount(disk, "size=64m")
        # A run of `extend` goes on as a training once that has begun; before, it begins anew.
        if command == "extend" and not (output / "run" / "config.toml").exists():
            output = disk / f"{share} again"
            output.mkdir()
        assert attacked.run(command, inputs, output).code == 0
        assert snapshot(output) == wanted
        subprocess.run(["find", disk, "-mindepth", "1", "-delete"], check=True)
    assert full


@commands
def test_a_folder_that_can_only_be_read(
    attacked: Victims, inputs: Path, disk: Path, command: str
) -> None:
    remount(disk, "ro")
    end = attacked.run(command, inputs, disk)
    assert end.code == 2, end
    assert "Read-only" in end.said.splitlines()[-1], end
    assert list(disk.iterdir()) == []
