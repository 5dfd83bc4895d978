"""The examples do what they say, on synthetic text."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
from support.synthetic import pairs, write_text

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs an example in this process and returns the lines it prints."""

    def run(name: str, *arguments: object) -> list[str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return run


def test_every_example_is_tested_and_short():
    tested = Path(__file__).read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f'"{path.name}"' in tested
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 40, path.name


def test_own_text_to_search(example, tmp_path: Path):
    corpus = write_text(tmp_path / "text", ("de",), 300) / "en-de.tsv"
    (english, _), *_ = pairs("de", 300)
    arguments = (corpus, tmp_path / "run", english, "--minutes", 0.03, "--vocab-size", 300)
    found = [line.split("\t") for line in example("train_and_search.py", *arguments)][-5:]
    assert found[0][1] == english
    assert float(found[0][0]) == pytest.approx(1.0, abs=1e-3)
    assert len(found) == 5


def test_plain_loop_learns(example):
    lines = example("plain_loop.py", "--steps", 60)
    first, last = (float(line.split()[-1]) for line in (lines[0], lines[-1]))
    assert last < first - 0.3


def test_mining_two_files(example, run: Path, tmp_path: Path):
    text = pairs("de", 40)
    paths = [tmp_path / "en.txt", tmp_path / "de.txt"]
    for side, path in enumerate(paths):
        path.write_text("".join(f"{pair[side]}\n" for pair in text), encoding="utf-8")
    lines = example("mine_files.py", run, *paths, tmp_path / "mined.tsv")
    mined = (tmp_path / "mined.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[-1].startswith(f"{len(mined)} pairs in ")
    assert all(len(line.split("\t")) == 3 for line in mined)
