from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake_encoder import NgramEncoder

from ems_fast.errors import InputError
from ems_fast.evaluation import BitextTask, bitext_f1, hide_pairs, score_mining
from ems_fast.mining import (
    Mining,
    fit_threshold,
    mine,
    mine_vectors,
    score_pair_vectors,
    score_pairs,
)
from ems_fast.mining.search import STRATEGIES

MARGINS = ("ratio", "distance", "absolute")


def unit(x: np.ndarray) -> np.ndarray:
    x = x.astype(np.float64)
    return x / np.linalg.norm(x, axis=1, keepdims=True)


def brute_margin(cosine: float, a: float, b: float, margin: str) -> float:
    mean = (a + b) / 2
    return {
        "ratio": cosine / max(mean, 1e-6),
        "distance": cosine - mean,
        "absolute": cosine,
    }[margin]


def brute_force(x, y, k: int, margin: str, strategy: str) -> list[tuple[int, int, float]]:
    """Mining by its definition: one candidate at a time, over all n × m cosines."""
    cosine = unit(x) @ unit(y).T
    n, m = cosine.shape
    near_x = [sorted(range(m), key=lambda j: -cosine[i, j])[:k] for i in range(n)]
    near_y = [sorted(range(n), key=lambda i: -cosine[i, j])[:k] for j in range(m)]
    mean_x = [np.mean([cosine[i, j] for j in near_x[i]]) for i in range(n)]
    mean_y = [np.mean([cosine[i, j] for i in near_y[j]]) for j in range(m)]

    def score(i, j):
        return brute_margin(cosine[i, j], mean_x[i], mean_y[j], margin)

    forward = [
        (score(i, j), i, j) for i in range(n) for j in [max(near_x[i], key=lambda j: score(i, j))]
    ]
    backward = [
        (score(i, j), i, j) for j in range(m) for i in [max(near_y[j], key=lambda i: score(i, j))]
    ]
    if strategy == "forward":
        chosen = forward
    elif strategy == "backward":
        chosen = backward
    elif strategy == "mutual":
        ends = {(i, j) for _, i, j in backward}
        chosen = [c for c in forward if c[1:] in ends]
    else:
        chosen, seen_x, seen_y = [], set(), set()
        for s, i, j in sorted(forward + backward, reverse=True):
            if i not in seen_x and j not in seen_y:
                chosen.append((s, i, j))
                seen_x.add(i)
                seen_y.add(j)
    return [(i, j, s) for s, i, j in sorted(chosen, key=lambda c: -c[0])]


def random_pair(seed: int, n: int, m: int, D: int) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of which some are translations of each other, all in a cone as real ones are."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, D)) + 1
    y = rng.standard_normal((m, D)) + 1
    shared = min(n, m) // 2
    y[:shared] = x[:shared] + 0.3 * rng.standard_normal((shared, D))
    return x.astype(np.float32), y[rng.permutation(m)].astype(np.float32)


def check_equal(mined: Mining, expected: list[tuple[int, int, float]]) -> None:
    assert len(mined) == len(expected)
    got = list(zip(mined.source_indices.tolist(), mined.target_indices.tolist(), strict=True))
    assert set(got) == {(i, j) for i, j, _ in expected}
    np.testing.assert_allclose(mined.scores, [s for _, _, s in expected], rtol=1e-4, atol=1e-6)
    assert mined.source_indices.dtype == mined.target_indices.dtype == np.int64
    assert mined.scores.dtype == np.float32


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize(("n", "m", "k"), [(1, 1, 1), (4, 9, 4), (60, 45, 4), (45, 60, 2)])
def test_equals_brute_force(n, m, k, margin, strategy):
    x, y = random_pair(n, n, m, 8)
    mined = mine_vectors(x, y, k=k, margin=margin, strategy=strategy, memory_bytes=50_000)
    check_equal(mined, brute_force(x, y, k, margin, strategy))


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 30),
    m=st.integers(1, 30),
    k=st.integers(1, 6),
    seed=st.integers(0, 9999),
    margin=st.sampled_from(MARGINS),
    strategy=st.sampled_from(STRATEGIES),
)
def test_equals_brute_force_on_any_shape(n, m, k, seed, margin, strategy):
    x, y = random_pair(seed, n, m, 5)
    k = min(k, n, m)
    check_equal(
        mine_vectors(x, y, k=k, margin=margin, strategy=strategy),
        brute_force(x, y, k, margin, strategy),
    )


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), strategy=st.sampled_from(STRATEGIES))
def test_permuting_the_input_permutes_the_pairs(seed, strategy):
    x, y = random_pair(seed, 20, 25, 6)
    rng = np.random.default_rng(seed)
    p, q = rng.permutation(20), rng.permutation(25)
    plain = mine_vectors(x, y, strategy=strategy)
    shuffled = mine_vectors(x[p], y[q], strategy=strategy)
    pairs = set(zip(plain.source_indices.tolist(), plain.target_indices.tolist(), strict=True))
    assert pairs == set(zip(p[shuffled.source_indices], q[shuffled.target_indices], strict=True))
    np.testing.assert_allclose(plain.scores, shuffled.scores, rtol=1e-5)


def test_swapping_the_sides_swaps_the_pairs():
    x, y = random_pair(5, 40, 30, 6)
    plain, swapped = mine_vectors(x, y), mine_vectors(y, x)
    np.testing.assert_array_equal(plain.source_indices, swapped.target_indices)
    np.testing.assert_array_equal(plain.target_indices, swapped.source_indices)


def test_max_is_one_to_one_even_when_all_scores_tie():
    ones = np.ones((50, 3), np.float32)
    mined = mine_vectors(ones, ones[:30])
    assert len(set(mined.source_indices)) == len(mined) == len(set(mined.target_indices))


def test_long_chains_are_taken_as_a_walk_takes_them():
    """Each pair shares an end with the next: only the first of them is free in each round."""
    angles = np.cumsum(1.0 / np.arange(20, 80))
    points = np.stack([np.cos(angles / 4), np.sin(angles / 4)], axis=1)
    x, y = points[::2], points[1::2]
    check_equal(mine_vectors(x, y, k=2, margin="absolute"), brute_force(x, y, 2, "absolute", "max"))


SOURCE = ["the red house", "a small bird", "", "cold water", "the red house", "long night"]
TARGET = ["cold watr", "the red hous", "many people", "a smal bird", "cold watr", "  ", "a box"]


def test_mine_sentences_deduplicates_and_keeps_positions(tmp_path):
    mined = mine(NgramEncoder(), SOURCE, TARGET, k=2, strategy="mutual", threshold=1.1)
    found = set(zip(mined.source_indices.tolist(), mined.target_indices.tolist(), strict=True))
    assert found == {(0, 1), (1, 3), (3, 0)}
    assert (np.diff(mined.scores) <= 0).all()
    everything = mine(NgramEncoder(), SOURCE, TARGET, k=2, strategy="forward")
    assert set(everything.source_indices.tolist()) == {0, 1, 3, 5}
    path = tmp_path / "mined.tsv"
    mined.to_tsv(path)
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
    assert [(s, t) for s, t, _ in rows] == [(s, t) for s, t, _ in mined.pairs()]
    np.testing.assert_allclose([float(score) for *_, score in rows], mined.scores, atol=1e-6)
    assert list(tmp_path.iterdir()) == [path]


def test_threshold_keeps_what_scores_as_much():
    x, y = random_pair(1, 30, 30, 6)
    everything = mine_vectors(x, y)
    threshold = float(everything.scores[7])
    assert len(mine_vectors(x, y, threshold=threshold)) == 8
    assert len(mine_vectors(x, y, threshold=1e9)) == 0


def test_to_tsv_keeps_its_columns_and_reports_failure(tmp_path):
    one = np.array([0])
    mined = Mining(one, one, np.ones(1, np.float32), ["a\tb\nc"], ["d\r\ne"])
    mined.to_tsv(tmp_path / "out.tsv")
    assert (tmp_path / "out.tsv").read_bytes() == b"a b c\td  e\t1.000000\n"
    with pytest.raises(InputError, match=r"out\.tsv: cannot be written \(No such file"):
        mined.to_tsv(tmp_path / "missing" / "out.tsv")
    with pytest.raises(InputError, match="mining: holds no sentences"):
        Mining(one, one, np.ones(1, np.float32)).to_tsv(tmp_path / "other.tsv")


@pytest.mark.parametrize("margin", MARGINS)
def test_score_pairs_equals_brute_force(margin):
    x, y = random_pair(3, 40, 40, 6)
    cosine = unit(x) @ unit(y).T
    forward = -np.sort(-cosine, axis=1)[:, :4]
    backward = -np.sort(-cosine, axis=0)[:4].T
    expected = [
        brute_margin(cosine[i, i], forward[i].mean(), backward[i].mean(), margin) for i in range(40)
    ]
    scores = score_pair_vectors(x, y, margin=margin)
    assert scores.dtype == np.float32
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-6)
    # The same neighbourhoods, given as pools; and the pools alone decide the neighbours.
    pooled = score_pair_vectors(x[:7], y[:7], margin=margin, source_pool=x, target_pool=y)
    np.testing.assert_allclose(pooled, scores[:7], rtol=1e-5, atol=1e-6)


def test_score_pairs_gives_a_mined_pair_the_score_it_was_mined_with():
    encoder = NgramEncoder()
    source, target = [s for s in SOURCE if s], [t for t in TARGET if t.strip()]
    mined = mine(encoder, source, target, k=3)
    scores = score_pairs(
        encoder,
        [s for s, _, _ in mined.pairs()],
        [t for _, t, _ in mined.pairs()],
        k=3,
        neighborhood=(source, target),
    )
    np.testing.assert_allclose(scores, mined.scores, rtol=1e-5)


def test_score_pairs_counts_repeated_sentences_once():
    encoder = NgramEncoder()
    source = ["one house", "two rivers", "three birds", "a door"]
    target = ["one hous", "two river", "three bird", "a dor"]
    once = score_pairs(encoder, source, target, k=3)
    again = score_pairs(encoder, [*source, *source[:2]], [*target, *target[:2]], k=3)
    np.testing.assert_allclose(again, [*once, *once[:2]], rtol=1e-5)
    assert score_pairs(encoder, ["alone"], ["alone"], margin="absolute") == pytest.approx([1.0])


def brute_threshold(scores, labels, total):
    best = 0.0
    for threshold in set(scores):
        accepted = [
            label for score, label in zip(scores, labels, strict=True) if score >= threshold
        ]
        best = max(best, 2 * sum(accepted) / (len(accepted) + total))
    return best


@settings(max_examples=80, deadline=None)
@given(
    data=st.lists(
        st.tuples(st.floats(-2, 2, width=32) | st.sampled_from([0.5, 1.0]), st.booleans()),
        min_size=1,
        max_size=30,
    ),
    missed=st.integers(0, 5),
)
def test_fit_threshold_equals_trying_every_score(data, missed):
    scores = np.array([score for score, _ in data], np.float32)
    labels = np.array([label for _, label in data])
    if not labels.any():
        return
    total = int(labels.sum()) + missed
    fitted = fit_threshold(scores, labels, total_positives=total)
    assert fitted.f1 == pytest.approx(brute_threshold(scores.tolist(), labels.tolist(), total))
    accepted = labels[scores >= np.float32(fitted.threshold)]
    assert fitted.precision == pytest.approx(accepted.mean())
    assert fitted.recall == pytest.approx(accepted.sum() / total)


def test_fit_threshold_lies_between_the_classes():
    fitted = fit_threshold(np.array([1.0, 3.0, 2.0, 5.0]), np.array([0, 1, 0, 1]))
    assert (fitted.threshold, fitted.precision, fitted.recall, fitted.f1) == (2.5, 1, 1, 1)
    low = np.float32(1.0)
    high = np.nextafter(low, np.float32(2))
    assert fit_threshold(np.array([low, high]), np.array([False, True])).threshold == high


WORDS = ["red", "green", "blue", "cold", "warm"]
SENTENCES = [f"{WORDS[i % 5]} number {i * 37}" for i in range(60)]


def test_hide_pairs_leaves_distractors_without_translation():
    source, target = [f"s{i}" for i in range(60)], [f"t{i}" for i in range(60)]
    source[9] = source[3]  # a repeated text is left out
    task = hide_pairs(source, target, gold_fraction=0.3, seed=1)
    assert len(task.gold) == 18
    pairs = {(int(s[1:]), int(t[1:])) for s in task.source for t in task.target if s[1:] == t[1:]}
    assert {(task.source[i], task.target[j]) for i, j in task.gold} == {
        (f"s{i}", f"t{j}") for i, j in pairs
    }
    assert len(task.source) == 18 + 21
    assert len(task.target) == 18 + 20
    assert "t9" not in task.target
    again = hide_pairs(source, target, gold_fraction=0.3, seed=1)
    assert again.source == task.source
    assert hide_pairs(source, target, seed=2).source != task.source


def test_bitext_f1_finds_hidden_pairs_and_carries_its_threshold_over():
    target = [sentence.replace("number", "numer") for sentence in SENTENCES]
    dev = hide_pairs(SENTENCES, target, gold_fraction=0.4, seed=0)
    test = hide_pairs(SENTENCES, target, gold_fraction=0.4, seed=1)
    encoder = NgramEncoder(256)
    fitted = bitext_f1(encoder, dev)
    assert fitted.f1 > 0.6
    result = bitext_f1(encoder, test, threshold=fitted.threshold)
    assert result.threshold == fitted.threshold
    assert result.gold == len(test.gold)
    assert result.f1 <= bitext_f1(encoder, test).f1
    assert result.f1 == pytest.approx(
        2 * result.precision * result.recall / (result.precision + result.recall)
    )


def test_score_mining_counts():
    task = BitextTask(("a", "b", "c", "a"), ("x", "y", "z"), np.array([[3, 0], [1, 1], [2, 2]]))
    mined = Mining(np.array([0, 1, 2]), np.array([0, 2, 1]), np.array([3.0, 2.0, 1.0], np.float32))
    best = score_mining(mined, task)  # "a" at 0 is "a" at 3: right; the other two are wrong
    assert (best.precision, best.recall, best.mined, best.gold) == (1.0, 1 / 3, 1, 3)
    every = score_mining(mined, task, threshold=0.0)
    assert (every.precision, every.recall, every.f1) == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    nothing = score_mining(mined, task, threshold=9.0)
    assert (nothing.precision, nothing.recall, nothing.f1, nothing.mined) == (0, 0, 0, 0)
    hopeless = score_mining(mined, BitextTask(task.source, task.target, np.array([[2, 2]])))
    assert (hopeless.f1, hopeless.mined) == (0, 0)
    with pytest.raises(InputError, match="gold: holds positions beyond the 4 source"):
        score_mining(mined, BitextTask(task.source, task.target, np.array([[0, 3]])))
    with pytest.raises(InputError, match="gold: got an array of shape"):
        score_mining(mined, BitextTask(task.source, task.target, np.empty((0, 2), np.int64)))


def test_bad_input():
    encoder, few = NgramEncoder(), ["one", "two", "three"]
    x = np.ones((5, 3), np.float32)
    nan = x.copy()
    nan[3, 1] = np.nan
    cases = [
        (
            lambda: mine(encoder, few, few * 2),
            "k: got 4 neighbours, but there are only 3 different",
        ),
        (lambda: mine(encoder, "one two", few), "source_sentences: got one string"),
        (lambda: mine(encoder, few, []), "target_sentences: got no sentences"),
        (lambda: mine(encoder, few, ["", " "]), "target_sentences: all 2 sentences are blank"),
        (lambda: mine(encoder, few, [1, 2]), "target_sentences: item 0 is of type int"),
        (lambda: mine(encoder, few, few, margin="cos"), "margin: got 'cos'"),
        (lambda: mine(encoder, few, few, strategy="best"), "strategy: got 'best', expected one of"),
        (lambda: mine(encoder, few, few, threshold=float("nan")), "threshold: got nan"),
        (lambda: mine_vectors(x, nan), "target_vectors: row 3 holds NaN"),
        (lambda: mine_vectors(x, x[:3]), "k: got 4 neighbours, but there are only 3 target"),
        (lambda: mine_vectors(x, x[:, :2]), "have 3 and 2 dimensions"),
        (lambda: score_pair_vectors(x, x[:4]), "have 5 and 4 rows"),
        (lambda: score_pair_vectors(x, nan, margin="absolute"), "target_vectors: row 3 holds NaN"),
        (lambda: score_pair_vectors(x, x, target_pool=nan), "target_pool: row 3 holds NaN"),
        (lambda: score_pairs(encoder, few, few), "k: got 4 neighbours, but there are only 3"),
        (lambda: score_pairs(encoder, few, few[:2]), "have 3 and 2 sentences"),
        (lambda: score_pairs(encoder, few, few, neighborhood="all"), "neighborhood: got 'all'"),
        (lambda: score_pairs(encoder, few, few, neighborhood=(few,)), "neighborhood: got 1 items"),
        (
            lambda: score_pairs(encoder, few, few, neighborhood=(few, few)),
            "only 3 different sentences in the source neighborhood",
        ),
        (lambda: fit_threshold(np.ones(2), np.ones(3)), r"have shapes \(2,\) and \(3,\)"),
        (lambda: fit_threshold(np.array([1, np.nan]), np.ones(2)), "scores: item 1 is nan"),
        (lambda: fit_threshold(np.ones(2), np.zeros(2)), "labels: none is true"),
        (lambda: fit_threshold(np.ones(2), np.array([0, 2])), "labels: hold something else"),
        (
            lambda: fit_threshold(np.ones(2), np.ones(2), total_positives=1),
            "total_positives: got 1, but 2",
        ),
        (lambda: hide_pairs(few, few[:2]), "have 3 and 2 sentences"),
        (lambda: hide_pairs(few, few, gold_fraction=0), "gold_fraction: got 0"),
    ]
    for call, message in cases:
        with pytest.raises(InputError, match=message):
            call()
