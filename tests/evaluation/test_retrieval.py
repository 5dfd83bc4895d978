from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake_encoder import CollapsedEncoder, NgramEncoder

from ems_fast.errors import InputError
from ems_fast.evaluation import (
    EvalSet,
    evaluate,
    evaluate_retrieval,
    nearest_examples,
    retrieval_from_vectors,
)


def exact_cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = x.astype(np.float64), y.astype(np.float64)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    y = y / np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-12)
    return x @ y.T


def brute_accuracy(scores: np.ndarray, same: np.ndarray) -> float:
    """The definition, a query at a time: the right share of the candidates at the top."""
    shares = []
    for row, right in zip(scores, same, strict=True):
        top = [j for j in range(len(row)) if row[j] >= row.max() - 1e-6]
        shares.append(sum(bool(right[j]) for j in top) / len(top))
    return float(np.mean(shares))


def brute_xsim(x: np.ndarray, y: np.ndarray, k: int, margin: str) -> float:
    cosine = exact_cosines(x, y)
    n = len(x)
    forward = -np.sort(-cosine, axis=1)[:, :k]
    backward = -np.sort(-cosine, axis=0)[:k].T
    scores = np.full((n, n), -np.inf)
    for i in range(n):
        for j in range(n):
            if cosine[i, j] >= forward[i, -1] - 1e-6:
                b = (forward[i].mean() + backward[j].mean()) / 2
                scores[i, j] = {
                    "ratio": cosine[i, j] / max(b, 1e-6),
                    "distance": cosine[i, j] - b,
                    "absolute": cosine[i, j],
                }[margin]
    return 1 - brute_accuracy(scores, np.eye(n, dtype=bool))


@pytest.mark.parametrize("margin", ["ratio", "distance", "absolute"])
@pytest.mark.parametrize(("n", "k"), [(1, 4), (3, 4), (4, 4), (60, 4), (60, 1)])
def test_equals_the_definition(n, k, margin):
    rng = np.random.default_rng(n)
    x = rng.standard_normal((n, 6)) + 0.5
    y = x + rng.standard_normal((n, 6))
    result = retrieval_from_vectors(x.astype(np.float32), y.astype(np.float32), k=k, margin=margin)
    cosine = exact_cosines(x, y)
    own = np.eye(n, dtype=bool)
    assert result.n == n
    assert result.k == min(k, n)
    assert result.margin == margin
    assert result.forward == pytest.approx(brute_accuracy(cosine, own))
    assert result.backward == pytest.approx(brute_accuracy(cosine.T, own))
    assert result.mean == (result.forward + result.backward) / 2
    assert result.xsim_error == pytest.approx(brute_xsim(x, y, result.k, margin))


@settings(max_examples=40, deadline=None)
@given(n=st.integers(1, 25), seed=st.integers(0, 999), texts=st.integers(1, 25))
def test_ties_and_repeated_texts_equal_the_definition(n, seed, texts):
    """Equal texts have equal vectors, and small whole numbers make more ties."""
    rng = np.random.default_rng(seed)
    source_ids, target_ids = rng.integers(0, texts, n), rng.integers(0, texts, n)
    x = rng.integers(0, 3, (texts, 3)).astype(np.float32)[source_ids]
    y = rng.integers(0, 3, (texts, 3)).astype(np.float32)[target_ids]
    result = retrieval_from_vectors(x, y, source_ids=source_ids, target_ids=target_ids)
    same = (source_ids[:, None] == source_ids) | (target_ids[:, None] == target_ids)
    assert result.forward == pytest.approx(brute_accuracy(exact_cosines(x, y), same))
    assert result.backward == pytest.approx(brute_accuracy(exact_cosines(y, x), same))


@pytest.mark.parametrize("n", [1, 2, 7, 333, 1000])
@pytest.mark.parametrize("margin", ["ratio", "distance", "absolute"])
def test_a_collapsed_encoder_scores_one_in_n(n, margin):
    source, target = [f"s {i}" for i in range(n)], [f"t {i}" for i in range(n)]
    result = evaluate_retrieval(CollapsedEncoder(), source, target, margin=margin)
    assert result.forward == pytest.approx(1 / n)
    assert result.backward == pytest.approx(1 / n)
    assert result.xsim_error == pytest.approx(1 - 1 / n)


def test_a_tie_of_two_counts_half():
    x = np.eye(3, dtype=np.float32)
    y = np.array([[1, 0, 0], [1, 0, 0], [0, 0, 1]], np.float32)
    result = retrieval_from_vectors(x, y)
    # Forward: the first ties with the second; the second sees three zeros; the third is alone.
    assert result.forward == pytest.approx((1 / 2 + 1 / 3 + 1) / 3)


def test_texts_that_occur_twice_are_one_answer():
    encoder = NgramEncoder()
    target = ["good morning", "thank you", "thank you", "see you tomorrow"]
    assert evaluate_retrieval(encoder, target, target).mean == 1.0
    # "danke" has two translations in the set, and either is right for both copies of it.
    source = ["danke", "danke", "morgen"]
    vectors = np.eye(3, dtype=np.float32)
    ids = np.array([0, 0, 2])
    swapped = retrieval_from_vectors(vectors, vectors[[1, 0, 2]], source_ids=ids)
    assert swapped.forward == 1.0
    assert retrieval_from_vectors(vectors, vectors[[1, 0, 2]]).forward == pytest.approx(1 / 3)
    assert evaluate_retrieval(encoder, source, ["danke", "danke!", "morgen"]).n == 3


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_order_scale_and_direction_do_not_matter(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((40, 8)).astype(np.float32)
    y = (x + rng.standard_normal((40, 8))).astype(np.float32)
    p = rng.permutation(40)
    result = retrieval_from_vectors(x, y)
    shuffled = retrieval_from_vectors(x[p], y[p])
    assert shuffled.forward == pytest.approx(result.forward)
    assert shuffled.xsim_error == pytest.approx(result.xsim_error)
    assert retrieval_from_vectors(3 * x, y / 7).forward == pytest.approx(result.forward)
    back = retrieval_from_vectors(y, x)
    assert (back.forward, back.backward) == pytest.approx((result.backward, result.forward))


def test_nearest_examples():
    sentences = ["the cat sleeps", "a dog barks", "the cats sleep", "the cat sleeps"]
    (example,) = nearest_examples(NgramEncoder(), ["the cat sleeps"], sentences, n=2)
    assert example.query == "the cat sleeps"
    assert example.texts == ("the cat sleeps", "the cats sleep")
    assert example.scores[0] == pytest.approx(1.0)
    assert example.scores[0] > example.scores[1] > 0
    with pytest.raises(
        InputError, match="k: got 4 neighbours, but there are only 3 different sentences"
    ):
        nearest_examples(NgramEncoder(), ["x"], sentences, n=4)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (["a"], ["a", "b"], "have 1 and 2 sentences"),
        ([], [], "source_sentences: got no sentences"),
        ("text", ["a"], "source_sentences: got one string"),
        (["a", None], ["a", "b"], "source_sentences: item 1 is of type NoneType"),
        (["a"], [b"a"], "target_sentences: item 0 is of type bytes"),
    ],
)
def test_bad_sentences(source, target, message):
    with pytest.raises(InputError, match=message):
        evaluate_retrieval(NgramEncoder(), source, target)


def test_bad_options_and_vectors():
    x = np.ones((3, 2), np.float32)
    with pytest.raises(InputError, match="margin: got 'cosine', expected one of 'ratio'"):
        retrieval_from_vectors(x, x, margin="cosine")
    with pytest.raises(InputError, match="k: got 0"):
        retrieval_from_vectors(x, x, k=0)
    with pytest.raises(InputError, match="have 3 and 2 rows"):
        retrieval_from_vectors(x, x[:2])
    with pytest.raises(InputError, match="target_vectors: row 0 holds NaN"):
        retrieval_from_vectors(x, x * np.nan)
    with pytest.raises(InputError, match="target_ids: got an array of shape"):
        retrieval_from_vectors(x, x, target_ids=np.arange(2))

    class Broken:
        def encode(self, sentences, *, normalize=False):
            return np.zeros((len(sentences) - 1, 2), np.float32)

    with pytest.raises(InputError, match=r"encoder: returned an array of shape \(1, 2\) for 2"):
        evaluate_retrieval(Broken(), ["a", "b"], ["a", "b"])


ENGLISH = ("one house", "two rivers", "three hundred birds", "a green door", "late at night")
SETS = [
    EvalSet("toy", "de", "en", ("ein Haus", "zwei Flüsse", "drei", "Tür", "Nacht"), ENGLISH),
    EvalSet("toy", "zh", "en", ENGLISH, ENGLISH),
    EvalSet("other", "fr", "en", ("maison", "deux"), ("house", "two")),
]


def test_evaluate_reports_each_set_and_averages():
    encoder = NgramEncoder()
    evaluation = evaluate(encoder, SETS)
    assert encoder.encoded == 5 + 5 + 2 + 2  # the English side, which three sides share, once
    assert [(r.name, r.source_lang, r.n) for r in evaluation.rows] == [
        ("toy", "de", 5),
        ("toy", "zh", 5),
        ("other", "fr", 2),
    ]
    for row, s in zip(evaluation.rows, SETS, strict=True):
        alone = evaluate_retrieval(encoder, s.source, s.target)
        assert (row.forward, row.backward, row.xsim_error) == (
            alone.forward,
            alone.backward,
            alone.xsim_error,
        )
    toy, other = evaluation.averages()
    assert (toy.name, toy.n, other.name, other.n) == ("toy", 10, "other", 2)
    assert toy.mean == pytest.approx((evaluation.rows[0].mean + 1.0) / 2)
    assert evaluation.mean == pytest.approx(sum(r.mean for r in evaluation.rows) / 3)


def test_evaluation_as_text_and_json(capsys):
    evaluation = evaluate(NgramEncoder(), SETS, progress=True)
    assert "evaluate" in capsys.readouterr().err
    table = evaluation.to_table().splitlines()
    assert table[0].split()[:3] == ["set", "languages", "pairs"]
    assert any(line.split()[:3] == ["toy", "zh-en", "5"] and "100.0" in line for line in table)
    assert len({len(line) for line in table}) == 1  # aligned
    markdown = evaluation.to_markdown().splitlines()
    assert len({line.count("|") for line in markdown}) == 1
    assert any("**average**" in line for line in markdown)
    data = json.loads(evaluation.to_json())
    assert data["rows"] == [asdict(row) for row in evaluation.rows]
    assert data["averages"][0]["name"] == "toy"


def test_evaluate_rejects_bad_sets():
    with pytest.raises(InputError, match="eval_sets: got none"):
        evaluate(NgramEncoder(), [])
    with pytest.raises(InputError, match="toy de and toy en: have 1 and 2 sentences"):
        evaluate(NgramEncoder(), [EvalSet("toy", "de", "en", ("a",), ("b", "c"))])
