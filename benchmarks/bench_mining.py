"""Scoring and choosing mined candidates: whole arrays against a loop over the candidates.

    pytest benchmarks/bench_mining.py --benchmark-enable -s

The baseline is the plain way to write margin scoring: for each sentence and each of its k
neighbours one dot product and one margin, then a walk over the sorted candidates. Both get the same
neighbours, which the search has found before; the search itself is timed on its own.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import pytest

from ems_fast.mining.exact import Neighbors, nearest_both
from ems_fast.mining.search import score_candidates, select_pairs

N, D, K = 10_000, 256, 4


@pytest.fixture(scope="module")
def vectors() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, D), dtype=np.float32) + 0.5
    y = x[rng.permutation(N)] + rng.standard_normal((N, D), dtype=np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    return x, y


@pytest.fixture(scope="module")
def neighbors(vectors) -> tuple[Neighbors, Neighbors]:
    return nearest_both(*vectors, K)


def loop(x, y, forward: Neighbors, backward: Neighbors) -> dict[tuple[int, int], float]:
    """Score and choose one candidate at a time."""
    mean_x, mean_y = forward.scores.mean(axis=1), backward.scores.mean(axis=1)
    candidates = []
    for queries, items, found, mean_q, mean_i, swap in (
        (x, y, forward, mean_x, mean_y, False),
        (y, x, backward, mean_y, mean_x, True),
    ):
        for i in range(len(queries)):
            best, best_j = -np.inf, -1
            for j in found.indices[i]:
                score = queries[i].dot(items[j]) / ((mean_q[i] + mean_i[j]) / 2)
                if score > best:
                    best, best_j = score, int(j)
            candidates.append((best, best_j, i) if swap else (best, i, best_j))
    chosen, seen_x, seen_y = {}, set(), set()
    for score, i, j in sorted(candidates, key=lambda candidate: -candidate[0]):
        if i not in seen_x and j not in seen_y:
            seen_x.add(i)
            seen_y.add(j)
            chosen[i, j] = float(score)
    return chosen


def arrays(forward: Neighbors, backward: Neighbors):
    return select_pairs(*score_candidates(forward, backward, "ratio"), forward, backward, "max")


def test_loop(benchmark, vectors, neighbors):
    benchmark.pedantic(loop, (*vectors, *neighbors), rounds=3)


def test_arrays(benchmark, neighbors):
    benchmark.pedantic(arrays, neighbors, rounds=15, warmup_rounds=2)


def test_search(benchmark, vectors):
    benchmark.pedantic(nearest_both, (*vectors, K), rounds=3)


def test_arrays_are_twenty_times_faster_than_the_loop(vectors, neighbors):
    expected = loop(*vectors, *neighbors)
    source, target, scores = arrays(*neighbors)
    found = dict(zip(zip(source.tolist(), target.tolist(), strict=True), scores, strict=True))
    # Scores that differ in the last bit may change the order of a handful of candidates.
    common = found.keys() & expected.keys()
    assert len(common) >= 0.999 * max(len(found), len(expected))
    error = max(abs(found[pair] - expected[pair]) for pair in common)
    assert error < 1e-5

    def seconds(call, *arguments) -> float:
        start = time.perf_counter()
        call(*arguments)
        return time.perf_counter() - start

    slow, fast = [], []
    for _ in range(5):  # interleaved, so that a busy machine slows both
        slow.append(seconds(loop, *vectors, *neighbors))
        fast.append(seconds(arrays, *neighbors))
    ratio = statistics.median(slow) / statistics.median(fast)
    print(
        f"\n{N} x {N} sentences, k={K}: loop {1e3 * statistics.median(slow):.0f} ms, arrays "
        f"{1e3 * statistics.median(fast):.1f} ms, ratio {ratio:.0f}, largest error {error:.1e}"
    )
    assert ratio >= 20
