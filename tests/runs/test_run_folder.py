from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from ems_fast.errors import EmsError, InputError
from ems_fast.files.atomic import replacing
from ems_fast.runs.folder import RunFolder


def test_a_file_is_replaced_at_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with replacing(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail_half_way() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed"),
    ],
)
def test_a_full_disk_is_one_sentence(
    tmp_path: Path, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path / "run")
    folder.create()
    folder.write_checkpoint({"step": 1})

    def fail(*_: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", fail)
        with pytest.raises(EmsError, match=r"last\.pt: cannot be written .* is untouched"):
            folder.write_checkpoint({"step": 2})
    assert folder.read_checkpoint() == {"step": 1}


def test_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "trapped",))

    folder = RunFolder(tmp_path / "run")
    folder.create()
    torch.save({"model": Trap()}, folder.checkpoint)
    with pytest.raises(InputError, match="cannot be read"):
        folder.read_checkpoint()
    assert not (tmp_path / "trapped").exists()


def test_a_log_cut_short_is_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.log("train", step=1)
    with folder.metrics.open("a") as file:
        file.write('{"event": "tra')
    assert folder.read_metrics() == [{"event": "train", "step": 1}]


def test_a_config_of_another_version(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("format = 99\n")
    with pytest.raises(InputError, match="has format 99, this version reads 1"):
        RunFolder(tmp_path).read_config()
