"""Further languages for a model: its tokenizer, its table, what it keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.synthetic import pairs, write_text

import ems_fast
from ems_fast import InputError, ModelConfig
from ems_fast.cli import main
from ems_fast.runs.folder import RunFolder
from ems_fast.text.appending import append_pieces, pieces_for, spelling

TABLE = ModelConfig(layers=0, width=32, reconstruction=False)
PHRASES = ModelConfig(layers=0, width=32, reconstruction=False, phrases=60)
LAYERS = ModelConfig(
    layers=1, width=32, heads=2, ffn_width=64, language_width=8, projection_width=16
)
OPTIONS = {
    "batch_pairs": 64, "log_steps": 5, "evaluations": 1, "device": "cpu", "progress": False,
}  # fmt: skip


@pytest.fixture(scope="module", params=[TABLE, PHRASES, LAYERS], ids=["table", "phrases", "layers"])
def first(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    prepare = {"vocab_size": 400, "valid_pairs": 20}
    ems_fast.train(
        write_text(folder / "text", ("de", "fr")), folder / "run", model=request.param,
        prepare_options=prepare, max_steps=150, **OPTIONS,
    )  # fmt: skip
    return folder / "run"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A language in letters that the first ones do not have."""
    greek = str.maketrans("abdefgiklmnoprstuv", "αβδεφγικλμνοπρστυω")
    folder = tmp_path_factory.mktemp("greek")
    lines = "".join(f"{a}\t{b.translate(greek)}\n" for a, b in pairs("el", 600))
    (folder / "en-el.tsv").write_text(lines, encoding="utf-8")
    return folder


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_pieces_are_appended_behind_the_old_ones(tmp_path: Path, kind: str, text: Path) -> None:
    old = ems_fast.prepare(
        write_text(tmp_path / "text", ("de",)), tmp_path / "corpus", vocab_size=400,
        tokenizer_type=kind, progress=False,
    ).tokenizer  # fmt: skip
    greek = [line.split("\t")[1] for line in (text / "en-el.tsv").read_text().splitlines()]
    pieces = pieces_for(old, greek, 60, 0.5)
    new = append_pieces(old, pieces)
    assert 20 < len(pieces) <= 60
    assert new.vocab_size == old.vocab_size + len(pieces)
    assert [new.piece(i) for i in range(old.vocab_size)] == [
        old.piece(i) for i in range(old.vocab_size)
    ]
    assert [new.piece(old.vocab_size + i) for i in range(len(pieces))] == [p.text for p in pieces]
    english = [a for a, _ in pairs("de", 50)]
    assert [new.encode(line) for line in english] == [old.encode(line) for line in english]
    assert len(new.encode(greek[0])) < len(old.encode(greek[0])) / 2
    assert new.decode(new.encode(greek[0])) == greek[0]


def test_a_piece_is_spelt_as_the_old_tokenizer_writes_it(first: Path) -> None:
    tokenizer = ems_fast.load(first).tokenizer
    assert tokenizer.decode(spelling(tokenizer, "▁ζωη")) == "ζωη"
    assert len(spelling(tokenizer, "ζωη")) == 6  # bytes alone


def test_a_new_language_is_learnt_and_the_old_ones_kept(
    first: Path, text: Path, tmp_path: Path
) -> None:
    result = ems_fast.extend(
        first, text, tmp_path / "second", new_pieces=150, max_steps=150, **OPTIONS,
        prepare_options={"valid_pairs": 25},
    )  # fmt: skip
    rows = {row.languages: row for row in result.certificate.rows}
    assert rows.keys() == {"en-el", "en-de", "en-fr"}  # the earlier run's corpus is still there
    assert [rows[name].old for name in ("en-el", "en-de", "en-fr")] == [False, True, True]
    assert rows["en-el"].after > rows["en-el"].before + 0.3
    assert rows["en-de"].after > rows["en-de"].before - 0.25
    assert set(result.encoder.languages) == {"en", "de", "fr", "el"}
    card = (tmp_path / "second" / "README.md").read_text()
    assert "What it keeps of" in card
    assert f"| {100 * rows['en-de'].neighbours:.1f} |" in card


def test_keep_trades_the_old_for_the_new(first: Path, text: Path, tmp_path: Path) -> None:
    kept = [
        ems_fast.extend(
            first, text, tmp_path / str(keep), keep=keep, new_pieces=100, max_steps=60, **OPTIONS
        ).certificate.mean("neighbours")
        for keep in (0.0, 1.0)
    ]
    assert None not in kept
    assert kept[1] >= kept[0]  # type: ignore[operator]


@pytest.mark.parametrize("model", [TABLE, PHRASES], ids=["table", "phrases"])
def test_before_training_a_table_says_of_old_text_what_it_said(
    text: Path, tmp_path: Path, model: ModelConfig
) -> None:
    run = tmp_path / "run"
    ems_fast.train(
        write_text(tmp_path / "text", ("de",)), run, model=model, max_steps=20, **OPTIONS,
        prepare_options={"vocab_size": 400},
    )  # fmt: skip
    ems_fast.extend(run, text, tmp_path / "second", max_steps=1, learning_rate=1e-12, **OPTIONS)
    sentences = [side for pair in pairs("de", 50) for side in pair]
    one = ems_fast.load(run).encode(sentences, normalize=True)
    other = ems_fast.load(tmp_path / "second").encode(sentences, normalize=True)
    np.testing.assert_allclose(np.sum(one * other, axis=1), 1.0, atol=1e-4)


def test_the_command_prints_the_certificate(
    first: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(text), "--output", str(tmp_path / "second"), "--keep", "0.8", "--new-pieces"]
    more = ["50", "--max-steps", "2", "--batch-pairs", "32", "--quiet", "--device", "cpu"]
    assert main(["extend", str(first), *arguments, *more]) == 0
    assert "neighbours kept" in capsys.readouterr().out
    folder = RunFolder(tmp_path / "second")
    assert folder.read_metrics()[-1]["keep"] == 0.8
    assert "with keep=0.8" in folder.report.read_text(encoding="utf-8")


def test_what_cannot_be_extended_is_refused(first: Path, text: Path, tmp_path: Path) -> None:
    def begin(corpora: Path = text, **options: object) -> None:
        ems_fast.extend(first, corpora, tmp_path / "no", **OPTIONS, **options)

    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "nl-sv.tsv").write_text("goede dag\tgod dag\n" * 3, encoding="utf-8")
    with pytest.raises(InputError, match=r"keep: got 1.5, expected between 0 and 1"):
        begin(keep=1.5)
    with pytest.raises(InputError, match="new_pieces: got -1"):
        begin(new_pieces=-1)
    with pytest.raises(InputError, match="contrastive_weight: `keep` decides"):
        begin(contrastive_weight=1.0)
    with pytest.raises(InputError, match="no pair has a side in a language"):
        begin(strange)
    with pytest.raises(InputError, match="new_phrases: got -1"):
        begin(new_phrases=-1)
    assert not (tmp_path / "no").exists()
