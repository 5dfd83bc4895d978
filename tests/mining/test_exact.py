from __future__ import annotations

import resource

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ems_fast.errors import InputError
from ems_fast.mining import exact
from ems_fast.mining.arrays import TorchArrays
from ems_fast.mining.exact import block_side, nearest, nearest_both

SHAPES = [  # n, m, D, k, memory_bytes: one block, many, edges that no chunk divides, k near m
    (1, 1, 1, 1, 1 << 20),
    (5, 7, 3, 5, 1 << 20),
    (200, 333, 16, 4, 1 << 20),
    (333, 200, 16, 1, 40_000),
    (150, 90, 8, 90, 40_000),
    (700, 650, 12, 3, 600_000),
]


def cosines(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = x.astype(np.float64), y.astype(np.float64)
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    y = y / np.maximum(np.linalg.norm(y, axis=1, keepdims=True), 1e-12)
    return x @ y.T


def check(found, exact: np.ndarray, k: int) -> None:
    """The k highest cosines, descending, each at an index that has this cosine."""
    assert found.indices.shape == found.scores.shape == (len(exact), k)
    assert found.indices.dtype == np.int64
    assert found.scores.dtype == np.float32
    np.testing.assert_allclose(found.scores, -np.sort(-exact, axis=1)[:, :k], atol=2e-6)
    at = np.take_along_axis(exact, found.indices, axis=1)
    np.testing.assert_allclose(found.scores, at, atol=2e-6)
    assert all(len(set(row)) == k for row in found.indices.tolist())


@pytest.mark.parametrize(("n", "m", "D", "k", "memory"), SHAPES)
def test_equals_brute_force(n, m, D, k, memory):
    rng = np.random.default_rng(n + m)
    x, y = rng.standard_normal((n, D)), rng.standard_normal((m, D))
    exact = cosines(x, y)
    k_both = min(k, n, m)
    forward, backward = nearest_both(
        x.astype(np.float32), y.astype(np.float32), k_both, memory_bytes=memory
    )
    check(forward, exact, k_both)
    check(backward, exact.T, k_both)
    check(nearest(x, y, k, memory_bytes=memory), exact, k)


@pytest.mark.parametrize(("n", "m", "D", "k", "memory"), SHAPES)
def test_torch_arrays_find_the_same(n, m, D, k, memory, monkeypatch):
    monkeypatch.setattr(exact, "arrays_on", TorchArrays)
    test_equals_brute_force(n, m, D, k, memory)


def test_threads_find_the_same():
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((1500, 8)), rng.standard_normal((1300, 8))
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        forward, backward = nearest_both(x, y, 4)
    finally:
        torch.set_num_threads(threads)
    check(forward, cosines(x, y), 4)
    check(backward, cosines(x, y).T, 4)


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 90),
    m=st.integers(1, 90),
    D=st.integers(1, 9),
    k=st.integers(1, 90),
    seed=st.integers(0, 999),
    levels=st.integers(1, 4),
)
def test_equals_brute_force_with_ties(n, m, D, k, seed, levels):
    """Small whole numbers make many equal cosines, and zero vectors."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-levels, levels + 1, (n, D)).astype(np.float32)
    y = rng.integers(-levels, levels + 1, (m, D)).astype(np.float32)
    k = min(k, n, m)
    exact = cosines(x, y)
    forward, backward = nearest_both(x, y, k, memory_bytes=30_000)
    check(forward, exact, k)
    check(backward, exact.T, k)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999))
def test_permuting_the_input_permutes_the_output(seed):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((70, 6)).astype(np.float32)
    y = rng.standard_normal((110, 6)).astype(np.float32)
    p, q = rng.permutation(70), rng.permutation(110)
    exact = cosines(x, y)
    forward, backward = nearest_both(x, y, 3)
    forward_p, backward_q = nearest_both(x[p], y[q], 3)
    check(forward_p, exact[p][:, q], 3)
    check(backward_q, exact[p][:, q].T, 3)
    np.testing.assert_allclose(forward_p.scores, forward.scores[p], atol=1e-6)
    np.testing.assert_allclose(backward_q.scores, backward.scores[q], atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_float_dtype_and_layout_and_the_input_is_untouched(dtype):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((40, 20)).astype(dtype)[:, ::2]
    x.flags.writeable = False
    y = np.asfortranarray(rng.standard_normal((50, 10)).astype(dtype))
    before = y.copy()
    check(nearest(x, y, 2), cosines(x, y), 2)
    np.testing.assert_array_equal(y, before)


def test_reads_memory_mapped_arrays(tmp_path):
    x = np.random.default_rng(2).standard_normal((300, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    check(nearest(mapped, mapped, 2, memory_bytes=30_000), cosines(x, x), 2)


def test_block_of_scores_stays_in_its_budget():
    for D in (16, 1024):
        for memory in (1 << 20, 8 << 20, 64 << 20):
            side = block_side(D, 4, memory)
            assert side >= 64
            assert side == 64 or 4 * side * side + 16 * D * side <= memory


def test_never_holds_all_scores():
    x = np.random.default_rng(3).standard_normal((6000, 4)).astype(np.float32)
    nearest_both(x[:500], x[:500], 4)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
    nearest_both(x, x, 4, memory_bytes=4 << 20)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
    assert grown < 40 << 20  # all n × m scores would take 144 MB


@pytest.mark.parametrize(
    ("x", "y", "k", "message"),
    [
        (np.ones((3, 2)), np.ones((4, 2)), 4, "k: got 4 neighbours, but there are only 3 source"),
        (np.ones((4, 2)), np.ones((3, 2)), 4, "k: got 4 neighbours, but there are only 3 target"),
        (np.ones((3, 2)), np.ones((4, 2)), 0, "k: got 0, expected a whole number"),
        (np.ones((3, 2)), np.ones((4, 2)), 1.5, "k: got 1.5, expected a whole number"),
        (
            np.ones((3, 2)),
            np.ones((4, 3)),
            1,
            "source_vectors and target_vectors: have 2 and 3 dimensions",
        ),
        (np.ones((0, 2)), np.ones((4, 2)), 1, r"source_vectors: got an array of shape \(0, 2\)"),
        (np.ones(3), np.ones((4, 2)), 1, r"source_vectors: got an array of shape \(3,\)"),
        (np.ones((3, 2), int), np.ones((4, 2)), 1, "source_vectors: got dtype int64"),
        ([[1.0]], np.ones((4, 1)), 1, "source_vectors: got a list"),
        (np.ones((3, 2)), np.full((4, 2), np.nan), 1, "target_vectors: row 0 holds NaN, infinity"),
        (
            np.array([[1.0], [np.inf]]),
            np.ones((4, 1)),
            1,
            "source_vectors: row 1 holds NaN, infinity",
        ),
        (
            np.array([[1.0], [1e200]]),
            np.ones((4, 1)),
            1,
            "source_vectors: row 1 holds .* too large",
        ),
    ],
)
def test_bad_input(x, y, k, message):
    with pytest.raises(InputError, match=message):
        nearest_both(x, y, k)


def test_names_the_row_beyond_the_first_block():
    x = np.ones((500, 2), np.float32)
    x[321, 1] = np.nan
    with pytest.raises(InputError, match="items: row 321 holds NaN"):
        nearest(np.ones((1, 2)), x, 1, memory_bytes=1000)


def test_memory_must_be_positive():
    with pytest.raises(InputError, match="memory_bytes: got 0"):
        nearest(np.ones((2, 2)), np.ones((2, 2)), 1, memory_bytes=0)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu():
    rng = np.random.default_rng(4)
    x, y = rng.standard_normal((500, 32)), rng.standard_normal((700, 32))
    forward, backward = nearest_both(x, y, 4, device="cuda", memory_bytes=500_000)
    check(forward, cosines(x, y), 4)
    check(backward, cosines(x, y).T, 4)
