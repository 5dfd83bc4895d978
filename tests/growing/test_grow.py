"""Rounds of mining and training on text that is not parallel."""

from __future__ import annotations

import dataclasses
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.synthetic import pairs, write_text

import ems_fast
from ems_fast import InputError, ModelConfig
from ems_fast.cli import main
from ems_fast.corpus.hashing import text_key
from ems_fast.growing import api
from ems_fast.growing.judging import accuracy
from ems_fast.growing.texts import open_texts

SIZES = ModelConfig(layers=0, width=32, reconstruction=False, phrases=50)
LANGUAGES = ("de", "fr")
OPTIONS: dict[str, Any] = {
    "preset": SIZES, "rounds": 1, "held_out_pairs": 60, "distractors": 200, "device": "cpu",
    "progress": False, "prepare_options": {"vocab_size": 400, "valid_pairs": 20},
    "max_steps": 14, "batch_pairs": 64, "evaluations": 1,
}  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 seed pairs a language, and files of lines, of which three in four have a partner."""
    folder = tmp_path_factory.mktemp("text")
    write_text(folder / "seed", LANGUAGES, 300)
    for language in LANGUAGES:
        found = pairs(language, 1500)[300:]
        for side, some in ((0, found[:900]), (1, found[300:])):
            lines = [pair[side] for pair in some]
            random.Random(side).shuffle(lines)
            name = f"{language}.{('en', language)[side]}.txt"
            (folder / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def texts(folder: Path) -> dict[str, tuple[str | Path, str | Path]]:
    return {f"en-{x}": (folder / f"{x}.en.txt", folder / f"{x}.{x}.txt") for x in LANGUAGES}


def grow(folder: Path, output: Path, **changes: Any) -> ems_fast.GrowResult:
    given: dict[str, Any] = {"pairs": folder / "seed", **OPTIONS, **changes}
    return ems_fast.grow(given.pop("model", None), texts(folder), output, **given)


@pytest.fixture(scope="module")
def grown(text: Path, tmp_path_factory: pytest.TempPathFactory) -> ems_fast.GrowResult:
    return grow(text, tmp_path_factory.mktemp("grown") / "out")


def test_a_round_makes_a_better_model(grown: ems_fast.GrowResult) -> None:
    first, last = grown.rounds
    assert last.accepted
    assert last.score > first.score + 0.05
    assert set(last.test) == set(last.mined) == {"en-de", "en-fr"}
    assert all(found.pairs > 100 and found.precision > 0.4 for found in last.mined.values())
    vectors = grown.encoder.encode(["x y"])
    best = ems_fast.load(grown.output_dir / "round-01" / "run")
    assert np.array_equal(vectors, best.encode(["x y"]))
    assert "accepted" in grown.to_table()


def test_held_out_text_is_never_trained_on(grown: ems_fast.GrowResult, text: Path) -> None:
    parts = {
        part: {
            text_key(side)
            for path in (grown.output_dir / "text").glob(f"*.{part}.tsv")
            for side in path.read_text().replace("\n", "\t").split("\t")
            if side
        }
        for part in ("decide", "test", "seed")
    }
    assert len(parts["decide"]) > 100
    assert not parts["decide"] & parts["test"]
    mined = [
        line.split("\t")
        for path in (grown.output_dir / "round-01").glob("mined.*.tsv")
        for line in path.read_text().splitlines()
    ]
    trained = {text_key(side) for row in mined for side in row[:2]} | parts["seed"]
    assert not trained & (parts["decide"] | parts["test"])
    margins = [float(row[2]) for row in mined]
    assert min(margins) >= min(m.threshold for m in grown.rounds[1].mined.values()) - 1e-5


def test_lines_with_held_out_text_take_no_part(text: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(text, tmp_path / "text")
    held = pairs("de", 40)
    with (copied / "de.de.txt").open("a") as file:
        file.writelines(f" {target.upper()} \n" for _, target in held)
    judges = copied / "en-de.tsv"
    judges.write_text("".join(f"{a}\t{b}\n" for a, b in held))
    result = ems_fast.grow(
        None, {"en-de": texts(copied)["en-de"]}, tmp_path / "out",
        **{"pairs": copied / "seed", **OPTIONS}, held_out=judges,
    )  # fmt: skip
    mined = (result.output_dir / "round-01" / "mined.en-de.tsv").read_text()
    assert not {text_key(b) for _, b in held} & {
        text_key(line.split("\t")[1]) for line in mined.splitlines()
    }


def test_the_same_call_does_no_work_again(grown: ems_fast.GrowResult, text: Path) -> None:
    before = (grown.output_dir / "round-01" / "run" / "metrics.jsonl").read_text()
    assert grow(text, grown.output_dir).rounds == grown.rounds
    assert (grown.output_dir / "round-01" / "run" / "metrics.jsonl").read_text() == before
    with pytest.raises(InputError, match="begun by a call with other min_gain"):
        grow(text, grown.output_dir, min_gain=0.1)


def test_it_goes_on_after_being_killed_between_rounds(
    grown: ems_fast.GrowResult, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[str] = []
    real = api.train

    def train(corpora: Any, folder: Path, **options: Any) -> Any:
        trained.append(folder.parent.name)
        if len(trained) == 2:
            raise KeyboardInterrupt
        return real(corpora, folder, **options)

    monkeypatch.setattr(api, "train", train)
    with pytest.raises(KeyboardInterrupt):
        grow(text, tmp_path / "out")
    assert not (tmp_path / "out" / "model").exists()
    mined = tmp_path / "out" / "round-01" / "mined.en-de.tsv"
    when = mined.stat().st_mtime_ns
    result = grow(text, tmp_path / "out")
    assert trained == ["round-00", "round-01", "round-01"]
    assert mined.stat().st_mtime_ns == when
    assert [one.decide for one in result.rounds] == [one.decide for one in grown.rounds]


def test_a_training_that_the_user_stops_is_gone_on_with(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = api.train

    def stopped(*arguments: Any, **options: Any) -> Any:
        return dataclasses.replace(real(*arguments, **options), interrupted=True)

    with monkeypatch.context() as patch:
        patch.setattr(api, "train", stopped)
        result = grow(text, tmp_path / "out", from_scratch=True)
    assert result.interrupted
    assert result.rounds == ()
    assert not (tmp_path / "out" / "model").exists()
    assert len(grow(text, tmp_path / "out", from_scratch=True).rounds) == 2


def test_a_round_that_is_no_better_is_rejected(
    grown: ems_fast.GrowResult, text: Path, tmp_path: Path
) -> None:
    result = grow(
        text, tmp_path / "out", model=grown.output_dir / "model", preset=None, rounds=3,
        min_gain=0.9, max_steps=2, prepare_options=None,
    )  # fmt: skip
    assert [one.accepted for one in result.rounds] == [True, False]
    assert result.best.number == 0
    assert np.array_equal(result.encoder.encode(["x y"]), grown.encoder.encode(["x y"]))


def test_nothing_mined_is_a_rejected_round(text: Path, tmp_path: Path) -> None:
    result = grow(text, tmp_path / "out", threshold=99.0)
    assert [one.accepted for one in result.rounds] == [True, False]
    assert not (tmp_path / "out" / "round-01" / "run").exists()


def test_a_collapsed_model_scores_nothing() -> None:
    class Same:
        def encode(self, sentences: Any, *, normalize: bool = False) -> Any:
            return np.ones((len(sentences), 4), np.float32)

    assert accuracy(Same(), [("a", "b"), ("c", "d")], (["e"], ["f"])) == 0.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": None}, "pairs: are missing"),
        ({"rounds": 0}, "rounds: got 0"),
        ({"threshold": float("nan")}, "threshold: got nan"),
        ({"min_gain": -1}, "min_gain: got -1"),
        ({"index": "fast"}, "index: got 'fast'"),
        ({"max_step": 3}, "max_step: no such training option"),
        ({"teacher_weight": 1.0}, "teacher_weight: got 1.0"),
        ({"preset": "huge"}, "model: got 'huge'"),
        ({"model": "no-such-model"}, "neither the folder of a model nor the name"),
        ({"model": "grown", "preset": None, "pairs": None, "prepare_options": None},
         "held_out: is missing"),
        ({"model": "grown", "prepare_options": None}, "preset: got"),
        ({"model": "grown", "preset": None}, "prepare_options: got vocab_size"),
    ],
)  # fmt: skip
def test_bad_arguments_end_before_any_work(
    text: Path, tmp_path: Path, grown: ems_fast.GrowResult, changes: dict[str, Any], message: str
) -> None:
    if changes.get("model") == "grown":
        changes = {**changes, "model": grown.output_dir / "model"}
    with pytest.raises(InputError, match=message):
        grow(text, tmp_path / "out", **changes)
    assert not (tmp_path / "out").exists()


def test_bad_files_end_before_any_work(text: Path, tmp_path: Path) -> None:
    good, empty, blank = (tmp_path / name for name in ("good.txt", "empty.txt", "blank.txt"))
    good.write_text("a\nb\nc\nd\n")
    empty.touch()
    blank.write_text("a\n\n \na\n")
    for given, message in (
        ({}, "texts: got"),
        ({"english": (good, good)}, "expected a language pair such as"),
        ({"en-de": (good,)}, "expected two files of lines"),
        ({"en-de": good}, "expected two files of lines"),
        ({"en-de": (good, good)}, "on both sides"),
        ({"en-de": (good, empty)}, "the file is empty"),
        ({"en-de": (good, tmp_path / "none.txt")}, "cannot be read"),
        ({"en-de": (good, blank)}, "has 1 different lines"),
        ({"en-de": (good, text / "de.de.txt"), "de-en": (text / "de.de.txt", good)}, "there twice"),
    ):
        with pytest.raises(InputError, match=message):
            open_texts(given)  # type: ignore[arg-type]


def test_a_language_pair_without_held_out_pairs(text: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there are 0 of en-de to judge"):
        grow(text, tmp_path / "out", held_out=text / "seed" / "en-fr.tsv")
    assert not (tmp_path / "out" / "text").exists()


def test_a_model_that_lacks_a_language(
    text: Path, tmp_path: Path, grown: ems_fast.GrowResult
) -> None:
    files = {"en-ru": (text / "de.en.txt", text / "de.de.txt")}
    with pytest.raises(InputError, match="does not know ru; teach it"):
        ems_fast.grow(grown.output_dir / "model", files, tmp_path / "out", pairs=text / "seed")


def test_the_command(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                     grown: ems_fast.GrowResult) -> None:  # fmt: skip
    files = [["--texts", name, *map(str, sides)] for name, sides in texts(text).items()]
    status = main([
        "grow", *files[0], *files[1], "--pairs", str(text / "seed"), "--output",
        str(tmp_path / "out"), "--model", str(grown.output_dir / "model"), "--rounds", "1",
        "--held-out-pairs", "60", "--max-steps", "5", "--device", "cpu", "--quiet",
    ])  # fmt: skip
    assert status == 0
    assert "is in " + str(tmp_path / "out" / "model") in capsys.readouterr().out
    assert main(["grow", "--texts", "en-de", "a", "b", "--output", str(tmp_path / "x")]) == 2
    assert "cannot be read" in capsys.readouterr().err
