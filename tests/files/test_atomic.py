from __future__ import annotations

import multiprocessing
import os
import stat
from pathlib import Path

from ems_fast.files.atomic import replacing, temporary_files


def test_two_writers_at_one_moment(tmp_path: Path) -> None:
    """Each has a temporary path of its own; the last one stays, and nothing else."""
    path = tmp_path / "x.json"
    with replacing(path) as one:
        one.write_text("one")
        with replacing(path) as other:
            assert other != one
            other.write_text("other")
        assert path.read_text() == "other"
        assert one.read_text() == "one"
    assert path.read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def _die_while_writing(path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text("half")
        os._exit(9)


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "x[1].json"
    process = multiprocessing.get_context("spawn").Process(target=_die_while_writing, args=(path,))
    process.start()
    process.join()
    (tmp_path / ".x[1].json.tmp").write_text("of an older version")
    assert len(temporary_files(path)) == 2
    assert not path.exists()
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert temporary_files(path) == [temporary]
    assert [p.name for p in tmp_path.iterdir()] == ["x[1].json"]


def test_the_file_has_the_rights_of_a_new_one(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with replacing(tmp_path / "x") as temporary:
        temporary.write_text("")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_writer_that_makes_a_private_file_of_its_own_does_not_matter(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    with replacing(tmp_path / "weights") as temporary:
        temporary.unlink()
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1
