"""Two processes with one output: neither destroys what the other does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.snapshot import snapshot
from support.victim import COMMANDS, Victims

import ems_fast
from ems_fast import InputError
from ems_fast.files.locks import locked
from ems_fast.runs.folder import RunFolder


@pytest.mark.parametrize("times", [1, pytest.param(10, marks=pytest.mark.slow)])
@pytest.mark.parametrize("command", COMMANDS)
def test_at_the_same_time(
    attacked: Victims, inputs: Path, tmp_path: Path, command: str, times: int
) -> None:
    alone = tmp_path / "alone"
    alone.mkdir()
    assert attacked.run(command, inputs, alone).code == 0
    for _ in range(times):
        output = tmp_path / "shared"
        output.mkdir()
        ends = attacked.run_at_once(command, inputs, output, 3)
        assert 0 in [end.code for end in ends], ends
        for end in ends:
            assert end.code in (0, 2), ends
            last = (end.said.splitlines() or [""])[-1]
            assert end.code == 0 or last.startswith("ems-fast: "), ends
        assert snapshot(output) == snapshot(alone), ends
        shutil.rmtree(output)


def test_a_run_is_trained_by_one_process(run: Path) -> None:
    folder = RunFolder(run)
    before = snapshot(run)
    with folder.training(begun=True), pytest.raises(InputError, match="another process is writing"):
        ems_fast.train(None, run, resume=True, device="cpu", progress=False)
    assert snapshot(run) == before


def test_a_run_that_was_begun_meanwhile_is_left_alone(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.write_config({})
    with (
        pytest.raises(InputError, match="just begun by another process"),
        folder.training(begun=False),
    ):
        pass
    assert not folder.lock.exists()


def test_a_lock_file_that_was_removed_keeps_nobody_out_and_so_is_none(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    with locked(path, tmp_path / "output"):
        path.unlink()
        with locked(path, tmp_path / "output"):
            pass
        path.touch()
    with path.open("w") as file:
        from ems_fast.files.locks import lock_output

        path.unlink()
        with pytest.raises(InputError, match="another process just wrote it"):
            lock_output(file, path, tmp_path / "output")
