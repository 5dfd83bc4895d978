from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from study import __main__ as study_main
from study.__main__ import main
from study.budget import Budget, learning_rate_factor
from study.config import Places, Row, Text
from study.rows import ROWS
from study.run import run_row
from study.systems.ours import one_language
from study.systems.sampling import epoch
from study.tables import NONE, write_tables
from study.texts import corpus_of, news_sets, training_text
from support.synthetic import pairs

from ems_fast import ModelConfig
from ems_fast.model.ems import XTRHead

LANGUAGES = ("de", "fr")
TEXT = Text(tags=("tat",), vocab_size=500, tokenizer_type="bpe", languages=LANGUAGES)
SETS = ("held-out", "news", "tatoeba")
# What this many pairs of so few words teach, of a hundred sentences.
LEARNT = 60.0


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """Synthetic text of two languages, some of it news, and a test set."""
    folder = tmp_path_factory.mktemp("study")
    train, tests = (folder / "shared" / "corpora" / part for part in ("train", "eval"))
    train.mkdir(parents=True)
    tests.mkdir()
    for language, code in zip(LANGUAGES, ("deu", "fra"), strict=True):
        found = pairs(language, 1_300)
        lines = [f"{a}\t{b}\t{'news' if i % 10 == 0 else 'tat'}\n" for i, (a, b) in
                 enumerate(found[:1_200])]  # fmt: skip
        # A duplicate and a pair of no use, which `prepare` drops.
        lines += [lines[1], "same\tsame\ttat\n"]
        (train / f"{language}.tsv").write_text("".join(lines), encoding="utf-8")
        for side, name in enumerate((f"tatoeba.{code}-eng.eng", f"tatoeba.{code}-eng.{code}")):
            text = "".join(f"{pair[side]}\n" for pair in found[1_200:])
            (tests / name).write_text(text, encoding="utf-8")
    document = folder / "quality.md"
    document.write_text("", encoding="utf-8")
    return Places(folder / "shared", folder / "work", folder / "results", document)


def tiny(name: str, system: Any, **options: Any) -> Row:
    return Row(name, system, "first", name, TEXT, pairs=20_000, options=options)


TAUGHT = tiny(
    "taught", "ems-fast", model="static", batch_pairs=64, teacher="static", teacher_minutes=0.05,
    contrastive_weight=0.0,
)  # fmt: skip
OURS = tiny("ours", "ems-fast", model="static", batch_pairs=64, width=32)
THEIRS = {"batch_pairs": 64, "width": 32}
BERT = {"layers": 1, "heads": 2, "ffn_width": 64, "learning_rate": 5e-3}
BASELINES = [
    tiny("st-static", "sentence-transformers", model="static", learning_rate=0.1, **THEIRS),
    tiny(
        "st-static-options", "sentence-transformers", model="static", learning_rate=0.02,
        init_std=0.05, scale=10.0, no_duplicates=True, bf16=True, **THEIRS,
    ),
    tiny("st-bert", "sentence-transformers", model="bert", **THEIRS, **BERT),
    tiny("st-cached", "sentence-transformers", model="bert", cached=32, **THEIRS, **BERT),
    tiny(
        "recipe", "recipe", batch_pairs=64, layers=1, width=32, heads=2, ffn_width=64,
        projection_width=16, language_width=8, learning_rate=5e-3,
    ),
]  # fmt: skip


def figures_of(row: Row, places: Places) -> dict[str, Any]:
    document = json.loads(places.result(row).read_text(encoding="utf-8"))
    assert document["command"] == f'make study ROWS="{row.name}"'
    figures: dict[str, Any] = document["figures"]
    return figures


@pytest.mark.parametrize("row", [OURS, TAUGHT, *BASELINES], ids=lambda row: row.name)
@pytest.mark.filterwarnings("default")  # of other libraries
def test_every_system_learns_and_leaves_its_figures(row: Row, places: Places) -> None:
    if row.system == "sentence-transformers":
        for package in ("sentence_transformers", "datasets", "accelerate"):
            pytest.importorskip(package)
    run_row(row, places)
    figures = figures_of(row, places)
    batch = row.options["batch_pairs"]
    assert row.pairs is not None
    assert row.pairs <= figures["pairs"] < row.pairs + batch
    assert figures["steps"] * batch == figures["pairs"]
    assert figures["pairs_per_second"] == pytest.approx(
        figures["pairs"] / (60 * figures["minutes"]), rel=0.05
    )
    assert figures["peak_memory_mb"] > 50
    assert {"numpy", "torch", "ems-fast"} <= {*figures["versions"]}
    for name in SETS:
        assert {*figures["scores"][name]["languages"]} == {*LANGUAGES}
        assert figures["scores"][name]["mean"] > LEARNT
    assert not (places.work / "runs" / row.name).exists()


def test_minutes_end_a_row(places: Places) -> None:
    row = dataclasses.replace(OURS, name="minutes", minutes=0.02, pairs=None)
    run_row(row, places)
    assert 0.02 <= figures_of(row, places)["minutes"] < 0.2


def test_without_the_language_embedding_all_languages_are_one() -> None:
    head = XTRHead(ModelConfig(languages=LANGUAGES, width=8, language_width=4))
    u, languages = torch.ones(2, 8), torch.tensor([0, 1])
    with one_language():
        blind = head(u, languages)
    assert torch.equal(blind[0], blind[1])
    assert torch.equal(blind[0], head(u, languages)[0])
    assert not torch.equal(*head(u, languages))


def test_options_reach_model_and_trainer(places: Places) -> None:
    options = {**OURS.options, "reconstruction": True, "weighting": "distinct"}
    row = dataclasses.replace(
        OURS, name="options", pairs=500, options={**options, "language_embedding": False}
    )
    run_row(row, places)
    found = figures_of(row, places)["details"]["options"]
    assert found["model"]["width"] == 32
    assert found["model"]["reconstruction"]
    assert found["batches"]["weighting"] == "distinct"


# -- text ------------------------------------------------------------------------------------------


def test_training_text_is_that_of_the_corpus(places: Places) -> None:
    corpus = corpus_of(TEXT, places)
    for shard in corpus.shards:
        found = training_text(TEXT, places, shard)
        assert len(found) == shard.num_pairs
        for i in (0, 1, shard.num_pairs // 2, shard.num_pairs - 1):
            ids = [corpus.tokenizer.encode(side) for side in found[i]]
            assert ids == [side.tolist() for side in shard.pair(i)]
        assert not {*found} & {*shard.valid_pairs()}


def test_text_of_other_files_is_found_out(places: Places) -> None:
    shard = corpus_of(TEXT, places).shards[0]
    other = dataclasses.replace(TEXT, tags=("news",))
    with pytest.raises(RuntimeError, match="is not in the text"):
        training_text(other, places, shard)


def test_pairs_limit_languages(places: Places) -> None:
    text = dataclasses.replace(TEXT, pairs=200, limited=("fr",))
    sizes = {s.target: s.num_pairs + s.num_valid for s in corpus_of(text, places).shards}
    assert sizes["fr"] <= 200 < sizes["de"]
    shard = next(s for s in corpus_of(text, places).shards if s.target == "fr")
    assert len(training_text(text, places, shard)) == shard.num_pairs
    assert text.key != dataclasses.replace(text, limited=()).key != TEXT.key


def test_news_only_where_it_is_not_trained_on(places: Places) -> None:
    folder = news_sets(TEXT, places)
    assert folder is not None
    assert sorted(file.name for file in folder.iterdir()) == ["news.de-en.tsv", "news.fr-en.tsv"]
    assert news_sets(dataclasses.replace(TEXT, tags=None), places) is None
    assert news_sets(dataclasses.replace(TEXT, tags=("tat", "news")), places) is None


# -- the schedule ----------------------------------------------------------------------------------


def test_budget_counts_pairs_and_time() -> None:
    budget = Budget(None, 10)
    assert budget.progress == 0
    budget.start()
    budget.step(4)
    assert budget.progress == 0.4
    budget.step(7)
    budget.stop()
    assert budget.progress == 1.1
    assert (budget.pairs, budget.steps) == (11, 2)
    assert budget.seconds == budget.seconds  # it has stopped
    assert Budget(1e-9, None).progress == 0  # not begun
    timed = Budget(1e-9, None)
    timed.start()
    assert timed.progress > 1


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_learning_rate_rises_and_ends_at_nothing(shape: Any) -> None:
    values = [learning_rate_factor(i / 100, 0.1, shape) for i in range(111)]
    assert values[0] == 0
    assert values[5] == pytest.approx(0.5)
    assert max(values) > 0.97
    assert values[10:] == sorted(values[10:], reverse=True)
    assert values[100] == pytest.approx(0, abs=1e-9)
    assert values[110] == values[100]
    assert learning_rate_factor(0, 0, shape) == 1


def test_an_epoch_repeats_nothing_early() -> None:
    rows = epoch([1_000, 10], 0.5, np.random.default_rng(0))
    counts = np.bincount(rows[1], minlength=10)
    assert counts.max() - counts.min() <= 1
    assert np.bincount(rows[0]).max() == 1
    assert sum(map(len, rows)) == pytest.approx(1_010, abs=1)


# -- rows and tables -------------------------------------------------------------------------------


def test_rows_have_names_and_tables_of_their_own() -> None:
    names = [row.name for row in ROWS]
    assert len({*names}) == len(names)
    for row in ROWS:
        assert all(character.isalnum() or character in "-." for character in row.name)
        json.dumps(row.to_json())
    # Rows of one label in one table are the same but for the seed.
    seeds: dict[tuple[str, str], list[Row]] = {}
    for row in ROWS:
        seeds.setdefault((row.table, row.label), []).append(row)
    for found in seeds.values():
        same = [dataclasses.replace(row, name="", seed=0, also=()) for row in found]
        assert all(row == same[0] for row in same)
        assert len({row.seed for row in found}) == len(found)


def test_document_names_every_table() -> None:
    root = Path(__file__).resolve().parents[2]
    text = (root / "docs" / "quality.md").read_text(encoding="utf-8")
    for table in {table for row in ROWS for table in row.tables}:
        assert f"<!-- study: {table} -->" in text


def made_up(places: Places, name: str, label: str, seed: int, tatoeba: float | None) -> Row:
    row = Row(name, "ems-fast", "first", label, TEXT, minutes=1, seed=seed)
    if tatoeba is not None:
        figures = {
            "minutes": 1.0, "pairs": 2_000_000, "pairs_per_second": 33_333.3,
            "peak_memory_mb": 1_234,
            "scores": {"tatoeba": {"mean": tatoeba, "languages": {"de": tatoeba + 1, "fr": 10.0}}},
        }  # fmt: skip
        places.results.mkdir(exist_ok=True)
        places.result(row).write_text(json.dumps({"figures": figures}), encoding="utf-8")
    return row


def test_tables_are_written_between_markers(tmp_path: Path) -> None:
    document = tmp_path / "quality.md"
    places = Places(tmp_path, tmp_path, tmp_path / "results", document)
    rows = [
        made_up(places, "a", "a", 0, 80.0), made_up(places, "a-seed1", "a", 1, 82.0),
        made_up(places, "b", "b", 0, None),
        dataclasses.replace(made_up(places, "c", "c", 0, 50.0), table="second", also=("first",)),
        dataclasses.replace(made_up(places, "d", "d", 0, None), table="third"),
    ]  # fmt: skip
    document.write_text(
        "Before.\n<!-- study: first -->\nold\n<!-- /study -->\n"
        "<!-- study: second languages tatoeba -->\n<!-- /study -->\n"
        "<!-- study: third -->\n<!-- /study -->\nAfter.\n",
        encoding="utf-8",
    )
    assert write_tables(document, rows, places)
    assert document.read_text(encoding="utf-8") == (
        "Before.\n<!-- study: first -->\n"
        "|  | seeds | minutes | pairs seen | pairs/s | MB | Tatoeba |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
        "| a | 2 | 1.0 | 2.00 M | 33,333 | 1,234 | 81.0 ± 1.0 |\n"
        "| c | 1 | 1.0 | 2.00 M | 33,333 | 1,234 | 50.0 |\n"
        "<!-- /study -->\n<!-- study: second languages tatoeba -->\n"
        "| Tatoeba | de | fr |\n| --- | --- | --- |\n| c | 51 | 10 |\n"
        f"<!-- /study -->\n<!-- study: third -->\n{NONE}\n<!-- /study -->\nAfter.\n"
    )
    assert not write_tables(document, rows, places)
    document.write_text("<!-- study: fourth -->\n<!-- /study -->\n", encoding="utf-8")
    with pytest.raises(ValueError, match="fourth"):
        write_tables(document, rows, places)


def test_main_runs_what_is_missing_and_goes_on_after_a_failure(
    places: Places, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    document = tmp_path / "quality.md"
    document.write_text("<!-- study: first -->\n<!-- /study -->\n", encoding="utf-8")
    arguments = [
        "--shared", str(places.shared), "--work", str(places.work),
        "--results", str(tmp_path / "results"), "--document", str(document),
    ]  # fmt: skip
    broken = dataclasses.replace(OURS, name="broken", options={"model": "no such"})
    rows = [broken, dataclasses.replace(OURS, name="good", pairs=2_000)]
    assert main([*arguments, "first"], rows) == 1
    told = capfd.readouterr()
    assert "no such" in told.err
    assert "failed: broken" in told.err
    assert [file.name for file in (tmp_path / "results").iterdir()] == ["good.json"]
    assert "| good |" not in document.read_text(encoding="utf-8")  # the label is "ours"
    assert "| ours | 1 |" in document.read_text(encoding="utf-8")
    assert main([*arguments, "go*"], rows) == 0
    assert "1 rows done before, 0 to run" in capfd.readouterr().out
    assert main([*arguments, "--list"], rows) == 0
    told = capfd.readouterr()
    assert "done first        good" in told.out
    assert "1 of 2 rows to run" in told.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["nothing"], "'nothing' is no row"), (["--minutes", "1"], "give --results")],
)
def test_main_refuses(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(arguments, [OURS])
    assert message in capsys.readouterr().err


def test_main_ends_when_it_is_interrupted(
    places: Places, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: Any) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(study_main, "run_rows", interrupt)
    arguments = ["--results", str(places.results), "--document", str(places.document)]
    assert main(arguments, [OURS]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_nothing_is_known_before_training(places: Places) -> None:
    row = dataclasses.replace(OURS, name="untrained", pairs=1)
    run_row(row, places)
    assert figures_of(row, places)["scores"]["held-out"]["mean"] < LEARNT / 2
