"""The commands that a token table needs, where there is no torch."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest
from support.synthetic import pairs
from support.without_torch import python_without_torch

import ems_fast
from ems_fast.cli import main

CODE = "from ems_fast.cli import main; sys.exit(main(sys.argv[1:]))"


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return python_without_torch(CODE, *arguments)


@pytest.fixture
def sides(tmp_path: Path) -> list[Path]:
    files = [tmp_path / "a.en", tmp_path / "a.de"]
    for file, lines in zip(files, zip(*pairs("de", 40), strict=True), strict=True):
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return files


@pytest.mark.parametrize("precision", ["float32", "int8", "ubinary"])
def test_it_searches_and_mines(
    table_run: Path, sides: list[Path], tmp_path: Path, precision: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    options = ["--model", str(table_run), "--precision", precision, "--dim", "24"]
    query = sides[1].read_text(encoding="utf-8").splitlines()[3]
    search = ["search", str(sides[0]), query, "--k", "2", *options]
    done = command(*search)
    assert done.returncode == 0, done.stderr
    assert main(search) == 0
    assert done.stdout == capsys.readouterr().out
    mined = tmp_path / "without.tsv", tmp_path / "with.tsv"
    done = command("mine", *sides, mined[0], *options)
    assert done.returncode == 0, done.stderr
    assert main(["mine", *map(str, sides), str(mined[1]), *options]) == 0
    assert mined[0].read_text() == mined[1].read_text() != ""


def test_it_scores_and_encodes(table_run: Path, sides: list[Path], tmp_path: Path) -> None:
    options = ["--model", table_run]
    done = command("score", *sides, tmp_path / "scored.tsv", *options)
    assert done.returncode == 0, done.stderr
    encoder = ems_fast.load(table_run)
    lines = [file.read_text(encoding="utf-8").splitlines() for file in sides]
    scored = (tmp_path / "scored.tsv").read_text(encoding="utf-8").splitlines()
    scores = [float(line.rsplit("\t", 1)[1]) for line in scored]
    np.testing.assert_allclose(scores, ems_fast.score_pairs(encoder, *lines), atol=2e-6)
    done = command("encode", sides[0], tmp_path / "a.npy", "--quiet", *options)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), encoder.encode(lines[0]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["align", "a.en", "a.de", "a.tsv"], "ems-fast: align needs torch here, which is not"),
        (["encode", "a.en", "a.npy"], "ems-fast: progress: needs the package tqdm, which is not"),
        (["train", "a.tsv", "--output", "run"], "ems-fast: train needs tqdm here, which is not"),
    ],
)
def test_what_is_missing_is_named(
    table_run: Path, sides: list[Path], arguments: list[str], message: str
) -> None:
    given = [sides[0].parent / word if word.startswith("a.") else word for word in arguments]
    model = [] if arguments[0] == "train" else ["--model", table_run]
    done = command(*given, *model)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(message)


def test_help_needs_nothing() -> None:
    done = command("--help")
    assert done.returncode == 0, done.stderr
    assert "extend" in done.stdout
    assert command("nonsense").returncode == 2
