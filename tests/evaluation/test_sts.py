from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fake_encoder import CollapsedEncoder, NgramEncoder
from support.names import HOSTILE

from ems_fast.errors import InputError
from ems_fast.evaluation import StsEvaluation, StsRow, evaluate_sts, spearman

ROWS = {
    "the cat sleeps": ("the cat sleeps", 5.0),
    "a dog barks, loudly": ("a dog barked loudly", 4.2),
    "thank you very much": ("thanks very much", 3.8),
    "he went to school": ("she goes to bed", 1.0),
    "good morning": ("yellow submarine", 0.0),
}


def write_similarities(folder: Path) -> Path:
    folder.mkdir()
    text = "".join(f'"{a}",{b},{score}\n' for a, (b, score) in ROWS.items())
    for name in ("toy-de-test.csv", "toy-fra-test.csv", "toy-de-dev.csv", "notes.csv"):
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def similarities(tmp_path: Path) -> Path:
    return write_similarities(tmp_path / "toy")


def brute_ranks(values) -> np.ndarray:
    """The average position over all orders of the tied."""
    return np.array([np.mean([v < x for v in values]) + np.mean([v <= x for v in values])
                     for x in values])  # fmt: skip


numbers = st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=2, max_size=30)


@given(numbers)
def test_spearman_equals_the_definition(values) -> None:
    a, b = map(np.array, zip(*values, strict=True))
    x, y = brute_ranks(a), brute_ranks(b)
    x, y = x - x.mean(), y - y.mean()
    if np.abs(x).max() < 1e-9 or np.abs(y).max() < 1e-9:
        assert spearman(a, b) == 0.0
    else:
        expected = (x * y).mean() / (x.std() * y.std())
        assert spearman(a, b) == pytest.approx(expected, abs=1e-12)
        assert spearman(np.exp(a), 7 * b - 1) == pytest.approx(expected, abs=1e-12)
        assert spearman(-a, b) == pytest.approx(-expected, abs=1e-12)


def test_known_ranks() -> None:
    # Without ties 1 - 6 Σd² / (n (n² - 1)): here Σd² = 4 and n = 5.
    assert spearman([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]) == pytest.approx(0.8)
    assert spearman([1, 1, 2], [1, 2, 3]) == pytest.approx(0.75**0.5)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [([], [], "have shapes"), ([1], [1, 2], "have shapes"), ([1, np.nan], [1, 2], "NaN")],
)
def test_spearman_of_nonsense(a, b, message) -> None:
    with pytest.raises(InputError, match=message):
        spearman(a, b)


def test_evaluate_sts(similarities: Path, capsys) -> None:
    result = evaluate_sts(NgramEncoder(), similarities.parent, progress=True)
    assert "similarity" in capsys.readouterr().err
    assert [(row.name, row.language, row.n) for row in result.rows] == [
        ("toy", "de", 5),
        ("toy", "fr", 5),
    ]
    encoder = NgramEncoder()
    first, second = (encoder.encode(side, normalize=True) for side in
                     (list(ROWS), [b for b, _ in ROWS.values()]))  # fmt: skip
    expected = spearman((first * second).sum(axis=1), [score for _, score in ROWS.values()])
    assert result.rows[0].spearman == pytest.approx(expected)
    assert expected > 0.5
    (average,) = result.averages()
    assert (average.n, average.spearman) == (10, result.mean)
    assert result.to_table().splitlines()[-1].split()[:3] == ["toy", "average", "10"]
    assert "| **toy** | **average** | **10** |" in result.to_markdown()
    assert json.loads(result.to_json())["split"] == "test"


def test_choices(similarities: Path) -> None:
    (row,) = evaluate_sts(NgramEncoder(), similarities, languages=["fr"]).rows
    assert row.language == "fr"
    assert len(evaluate_sts(NgramEncoder(), similarities, split="dev").rows) == 1
    assert evaluate_sts(CollapsedEncoder(), similarities).mean == 0.0
    with pytest.raises(InputError, match="has no similarities for ja; it has de, fr"):
        evaluate_sts(NgramEncoder(), similarities, languages=["ja"])
    with pytest.raises(InputError, match="split: got 'all'"):
        evaluate_sts(NgramEncoder(), similarities, split="all")
    (similarities / "toy-de-dev.csv").unlink()
    with pytest.raises(InputError, match="holds no dev set of similarities, expected stsb-de"):
        evaluate_sts(NgramEncoder(), similarities, split="dev")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b,1\nc,d\n", r"toy-de-test\.csv:2: has 2 columns"),
        ("sentence1,sentence2,score\n", r"csv:1: score 'score' is not a finite number"),
        ("a,b,nan\n", r"csv:1: score 'nan'"),
        ('a,"b" c,1\n', r"csv:1: is not CSV"),
        ("", "is empty"),
    ],
)
def test_bad_files(similarities: Path, content: str, message: str) -> None:
    (similarities / "toy-de-test.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        evaluate_sts(NgramEncoder(), similarities)


def test_names_are_text_in_markdown() -> None:
    result = StsEvaluation((StsRow(HOSTILE, "de", 2, 0.5),), "test")
    _, _, row, average = result.to_markdown().splitlines()
    shown = r"&lt;script&gt;alert(1)&lt;/script&gt;\|a b: \[c\](d) \`e\` \_f\_"
    assert row == f"| {shown} | de | 2 | 50.0 |"
    assert average.startswith(f"| **{shown}** |")
