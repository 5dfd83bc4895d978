from __future__ import annotations

from pathlib import Path

from ems_fast.files import atomic
from ems_fast.files.atomic import replacing


def test_two_writers_at_one_moment(tmp_path: Path, monkeypatch) -> None:
    """Each has a temporary path of its own; the last one stays, and nothing else."""
    path = tmp_path / "x.json"
    with replacing(path, contended=True) as one:
        one.write_text("one")
        monkeypatch.setattr(atomic.os, "getpid", lambda: -1)
        with replacing(path, contended=True) as other:
            assert other != one
            other.write_text("other")
        assert path.read_text() == "other"
    assert path.read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]
