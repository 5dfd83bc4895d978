from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.fake_encoder import CollapsedEncoder, NgramEncoder
from support.synthetic import pairs
from test_classification import write_collection
from test_sts import write_similarities

from ems_fast.errors import InputError
from ems_fast.evaluation import EvalSet, evaluate, evaluate_folders, read_eval_sets
from ems_fast.evaluation.bitext import cross_fitted_f1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sets of every task side by side."""
    write_collection(tmp_path / "topics")
    write_similarities(tmp_path / "similar")
    (tmp_path / "flat").mkdir()
    for code, side in zip(("en", "de"), zip(*pairs("de", 30), strict=True), strict=True):
        (tmp_path / "flat" / f"x.{code}").write_text("\n".join(side) + "\n")
    return tmp_path


def test_everything_in_a_folder(folder: Path) -> None:
    result = evaluate_folders(NgramEncoder(), [folder], repeats=1, languages=["de"])
    assert result.retrieval is not None
    assert result.classification is not None
    assert result.sts is not None
    assert [row.language for row in result.classification.rows] == ["de", "en"]
    assert [row.language for row in result.sts.rows] == ["de"]
    assert result.retrieval == evaluate(
        NgramEncoder(), read_eval_sets(folder / "flat"), bitext=True
    )
    titles = ["Translation retrieval", "Zero-shot classification", "Semantic textual similarity"]
    assert [line[3:] for line in result.to_markdown().splitlines() if line[:3] == "## "] == titles
    assert [line for line in result.to_table().splitlines() if line in titles] == titles
    assert [*json.loads(result.to_json())] == ["retrieval", "classification", "sts"]


def test_several_folders_and_chosen_tasks(folder: Path) -> None:
    write_similarities(folder / "more")
    paths = [folder / "similar", folder / "more"]
    both = evaluate_folders(NgramEncoder(), paths)
    assert both.retrieval is None
    assert both.sts is not None
    assert len(both.sts.rows) == 4
    only = evaluate_folders(NgramEncoder(), [folder], tasks=["retrieval"], bitext=False)
    assert only.sts is None
    assert only.retrieval is not None
    assert only.retrieval.rows[0].bitext_f1 is None
    assert "F1" not in only.to_table()
    (row,) = evaluate_folders(NgramEncoder(), [folder / "flat" / "x.de"]).retrieval.rows
    assert row.n == 30


def test_what_is_not_understood(folder: Path) -> None:
    empty = folder / "empty"
    empty.mkdir()
    with pytest.raises(
        InputError,
        match=r"empty: holds no evaluation set that can be recognised; understood are translations "
        r"\(name\.de-en\.de beside .*\), classification \(deu_Latn/train\.tsv.*\) and similarity",
    ):
        evaluate_folders(NgramEncoder(), [folder / "flat", empty])
    with pytest.raises(InputError, match="missing: no such file or folder"):
        evaluate_folders(NgramEncoder(), [folder / "missing"])
    with pytest.raises(InputError, match="flat holds sets for retrieval, but sts is asked for"):
        evaluate_folders(NgramEncoder(), [folder / "flat"], tasks=["sts"])
    with pytest.raises(InputError, match="tasks: got 'speed', expected one of 'retrieval'"):
        evaluate_folders(NgramEncoder(), [folder], tasks=["speed"])
    with pytest.raises(InputError, match="tasks: no folder holds sets for nothing"):
        evaluate_folders(NgramEncoder(), [])
    with pytest.raises(InputError, match="paths: got the string"):
        evaluate_folders(NgramEncoder(), str(folder))


def test_xsim_in_both_directions_swaps_with_the_sides() -> None:
    source, target = zip(*pairs("de", 40), strict=True)
    (there,) = evaluate(NgramEncoder(), [EvalSet("x", "de", "en", target, source)]).rows
    (back,) = evaluate(NgramEncoder(), [EvalSet("x", "en", "de", source, target)]).rows
    assert there.xsim_error == pytest.approx(back.xsim_error_back)
    assert there.xsim_error_back == pytest.approx(back.xsim_error)


def test_cross_fitted_mining() -> None:
    texts = [f"sentence number {i * 7919 % 1000:03d} of some" for i in range(60)]
    same = NgramEncoder(256).encode(texts)
    assert cross_fitted_f1(texts, texts, (same, same)) == 1.0
    others = [f"another {i}" for i in range(60)]
    blind = CollapsedEncoder().encode(texts)
    assert cross_fitted_f1(texts, others, (blind, blind)) < 0.3
    assert cross_fitted_f1(texts[:2], texts[:2], (same[:2], same[:2])) == 1.0
    with pytest.raises(InputError, match="has 1 sentence, expected at least 2"):
        cross_fitted_f1(texts[:1], texts[:1], (same[:1], same[:1]))
