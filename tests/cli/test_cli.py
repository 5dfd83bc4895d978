from __future__ import annotations

import gzip
import json
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from support.synthetic import pairs, write_text

import ems_fast
from ems_fast import errors
from ems_fast.cli import doctor
from ems_fast.cli.parser import build_parser, main


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    source, target = zip(*pairs("de", 30), strict=True)
    for name, lines in (("a.en", source), ("a.de", target)):
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return tmp_path / "a.en", tmp_path / "a.de"


def test_prepare_then_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = write_text(tmp_path / "text", n=200)
    corpus = tmp_path / "corpus"
    assert (
        main(["prepare", str(text), "--output", str(corpus), "--vocab-size", "400", "--quiet"]) == 0
    )
    assert "held out" in capsys.readouterr().out
    run = tmp_path / "run"
    arguments = ["train", str(corpus), "--output", str(run), "--quiet", "--batch-pairs", "16"]
    assert main([*arguments, "--max-steps", "2", "--no-mask-duplicates"]) == 0
    assert "2 steps, 32 pairs" in capsys.readouterr().out
    assert main(["train", "--output", str(run), "--resume", "--max-steps", "3", "--quiet"]) == 0
    assert "3 steps, 48 pairs" in capsys.readouterr().out


def test_every_option_is_explained() -> None:
    (commands,) = [a.choices for a in build_parser()._actions if a.metavar == "command"]
    for command in commands.values():
        for action in command._actions:
            assert action.help
            assert not action.help.startswith((" ", "as in"))


def test_encode(run: Path, sides: tuple[Path, Path], tmp_path: Path) -> None:
    output = tmp_path / "a.npy"
    assert main(["encode", str(sides[0]), str(output), "--model", str(run), "--quiet"]) == 0
    expected = ems_fast.load(run).encode(sides[0].read_text().splitlines())
    np.testing.assert_allclose(np.load(output), expected, atol=1e-6)


def test_evaluate(
    run: Path, sides: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table, text = tmp_path / "scores.json", tmp_path / "scores.md"
    arguments = ["evaluate", str(sides[0].parent), "--model", str(run), "--quiet"]
    assert main([*arguments, "--json", str(table), "--markdown", str(text)]) == 0
    assert "de-en" in capsys.readouterr().out
    (row,) = json.loads(table.read_text())["retrieval"]["rows"]
    assert row["n"] == 30
    assert row["bitext_f1"] is not None
    assert text.read_text().startswith("## Translation retrieval\n\n| set | languages |")


def test_mine_and_score(run: Path, sides: tuple[Path, Path], tmp_path: Path) -> None:
    mined, scored = tmp_path / "mined.tsv", tmp_path / "scored.tsv"
    files = [str(path) for path in sides]
    assert main(["mine", *files, str(mined), "--model", str(run)]) == 0
    rows = [line.split("\t") for line in mined.read_text().splitlines()]
    assert rows
    scores = [float(row[2]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    sides[0].write_text(sides[0].read_text().replace(" ", "\t", 1))
    assert main(["score", *files, str(scored), "--model", str(run)]) == 0
    rows = [line.split("\t") for line in scored.read_text().splitlines()]
    assert [len(row) for row in rows] == [3] * 30


def test_compressed_files_and_byte_order_marks_change_nothing(
    run: Path, sides: tuple[Path, Path], tmp_path: Path
) -> None:
    plain = [str(path) for path in sides]
    odd = [str(tmp_path / "odd.en.gz"), str(tmp_path / "odd.de")]
    with gzip.open(odd[0], "wb") as file:
        file.write(sides[0].read_bytes())
    Path(odd[1]).write_text("\ufeff" + sides[1].read_text().replace("\n", "\r\n"), newline="")
    for command in ("mine", "score"):
        expected, found = tmp_path / f"{command}.tsv", tmp_path / f"{command}.odd.tsv"
        assert main([command, *plain, str(expected), "--model", str(run)]) == 0
        assert main([command, *odd, str(found), "--model", str(run)]) == 0
        assert found.read_bytes() == expected.read_bytes()


def test_report(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "report.html").unlink()
    assert main(["report", str(run)]) == 0
    assert str(run / "report.html") in capsys.readouterr().out
    page = (run / "report.html").read_text()
    assert "id='map'" in page
    assert "http://" not in page
    assert "https://" not in page


def test_report_compares_runs(
    run: Path, table_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "compare.html"
    assert main(["report", str(run), str(table_run), "--output", str(page)]) == 0
    assert str(page) in capsys.readouterr().out
    assert "What differs in their settings" in page.read_text()
    assert main(["report", str(run), str(table_run)]) == 2
    assert "output: is missing" in capsys.readouterr().err


def test_doctor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    for backend in ems_fast.backends():
        assert backend.name in printed
    assert any(backend.active for backend in ems_fast.backends())


def test_doctor_knows_every_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    declared = set(metadata.metadata("ems-fast").get_all("Provides-Extra") or ())
    assert set(doctor.EXTRAS) == declared - {"test", "lint", "browser"}
    assert doctor.packages_of("export") == ["onnx", "onnxscript", "onnxruntime"]

    def version(package: str) -> str:
        if package == "jieba":
            raise metadata.PackageNotFoundError(package)
        return "1.2"

    monkeypatch.setattr(doctor, "version", version)
    assert main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert "ONNX graphs: onnx 1.2, onnxscript 1.2, onnxruntime 1.2\n" in printed
    assert "sacremoses 1.2, jieba missing; pip install 'ems-fast[released]'" in printed


def test_every_error_is_public() -> None:
    classes = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert classes <= set(ems_fast.__all__)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "nowhere.tsv", "--output", "out", "--quiet"], "nowhere.tsv"),
        (["train", "--output", "out", "--quiet"], "corpora: got None"),
        (["encode", "nowhere.txt", "out.npy", "--model", "RUN"], "nowhere.txt: cannot be read"),
        (
            ["encode", "EMPTY", "out.npy", "--model", "RUN"],
            "is empty, expected one sentence a line",
        ),
        (["encode", "LATIN1", "out.npy", "--model", "RUN"], "line 2: is not UTF-8"),
        (
            ["encode", "TEXT", "no/out.npy", "--model", "RUN", "--quiet"],
            "out.npy: cannot be written (No such",
        ),
        (["evaluate", "nowhere", "--model", "RUN"], "nowhere"),
        (
            ["evaluate", ".", "--model", "RUN"],
            "that can be recognised; understood are translations",
        ),
        (["evaluate", ".", "--model", "RUN", "--json", "no/a.json"], "its folder does not exist"),
        (["mine", "EMPTY", "EMPTY", "out.tsv", "--model", "RUN"], "got no sentences"),
        (["mine", "LATIN1", "TEXT", "out.tsv", "--model", "RUN"], "line 2: is not UTF-8"),
        (["score", "TEXT", "nowhere.gz", "out.tsv", "--model", "RUN"], "nowhere.gz: cannot be"),
        (["encode", "EMPTY", "out.npy", "--model", "nowhere"], "is neither the folder of a model"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(
    arguments: list[str],
    message: str,
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("EMPTY").touch()
    Path("TEXT").write_text("bade gi\n")
    Path("LATIN1").write_bytes(b"fine\n\xe4\xf6\xfc\n")
    before = sorted(tmp_path.iterdir())
    assert main([str(run) if a == "RUN" else a for a in arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("ems-fast: ")
    assert message in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before


def test_search(run: Path, sides: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    lines = sides[0].read_text().splitlines()
    assert main(["search", str(sides[0]), lines[3], "--model", str(run), "--k", "2"]) == 0
    query, first, second = capsys.readouterr().out.splitlines()
    assert query == lines[3]
    assert first.split()[:2] == ["1.000", "4"]
    assert first.endswith(lines[3])
    assert float(second.split()[0]) <= 1.0
    assert main(["search", str(sides[0]), "x", "--model", str(run), "--k", "0"]) == 2
    assert "k: got 0" in capsys.readouterr().err
