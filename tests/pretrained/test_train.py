"""The card of the model in the wheel, from scores as they are written."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from ems_fast.corpus import BinaryCorpus
from ems_fast.evaluation.classification import ClassificationEvaluation, ClassificationRow
from ems_fast.evaluation.report import Evaluation, EvaluationRow
from ems_fast.evaluation.sts import StsEvaluation, StsRow
from ems_fast.evaluation.suite import SuiteEvaluation

sys.path.append(str(Path(__file__).resolve().parents[2] / "pretrained"))

import train


def retrieval(name: str, source: str, mean: float) -> EvaluationRow:
    return EvaluationRow(name, source, "en", 10, mean, mean, mean, 0.1, 0.1, None)


@pytest.fixture
def scores() -> dict[str, object]:
    rows = (
        retrieval("tatoeba", "de", 0.9), retrieval("flores200_devtest", "de", 0.8),
        retrieval("flores200_devtest", "sr", 0.5), retrieval("flores200_devtest", "sr_Latn", 0.7),
        retrieval("flores200_devtest", "jv", 0.2),
    )  # fmt: skip
    suite = SuiteEvaluation(
        Evaluation(rows, "ratio", 4),
        ClassificationEvaluation(
            (ClassificationRow("sib200", "de", 4, (0.5, 0.7)),), "en", 0, 1, "test"
        ),
        StsEvaluation((StsRow("stsb", "de", 4, 0.65),), "test"),
    )
    found: dict[str, object] = json.loads(suite.to_json())
    return found


def test_averages(scores: dict[str, object]) -> None:
    found = train.averages(scores)
    assert found["sib200"] == pytest.approx(0.6)
    assert found["stsb"] == pytest.approx(0.65)
    assert found["tatoeba"] == pytest.approx(0.9)
    assert train.by_language(scores, "flores")["sr"] == 0.7


def test_the_card(
    scores: dict[str, object], run: Path, corpus: BinaryCorpus, tmp_path: Path
) -> None:
    sources = {
        "sources": {"osm": {"licence": "ISC", "pairs": 5}},
        "languages": {"de": {"pairs": 12, "sources": {"tat": 7, "osm": 3, "osm.short": 2}}},
        "beside english": {"pairs": 4},
    }
    (tmp_path / "sources.json").write_text(json.dumps(sources))
    card = train.card(corpus.path, run, tmp_path, {"float32": scores, "quantised": scores})
    assert "| de | 12 | 80.0 | 90.0 |" in card
    assert "not supported: jv." in card
    assert "| osm | ISC | 5 |" in card
    assert "| tat | CC-BY-2.0-FR | 7 |" in card
    assert "- jv" not in card.split("---")[1]
