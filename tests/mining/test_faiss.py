from __future__ import annotations

import sys

import numpy as np
import pytest
from support.fake_encoder import NgramEncoder
from support.synthetic import pairs

import ems_fast
from ems_fast.encoding.embeddings import Embeddings
from ems_fast.errors import BackendError, InputError
from ems_fast.mining import mine_vectors
from ems_fast.mining.exact import nearest, nearest_both


def sides(n: int, m: int, D: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Vectors around 40 topics; the first sources are near the first targets."""
    rng = np.random.default_rng(0)
    topics = 1.5 * rng.standard_normal((40, D))
    y = topics[rng.integers(40, size=m)] + rng.standard_normal((m, D))
    x = topics[rng.integers(40, size=n)] + rng.standard_normal((n, D))
    x[: min(n, m)] = y[: min(n, m)] + 0.3 * rng.standard_normal((min(n, m), D))
    return x.astype(np.float32), y.astype(np.float32)


def test_without_faiss(monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    x, y = sides(4, 4)
    with pytest.raises(BackendError, match=r"index='faiss' needs faiss.*ems-fast\[faiss\]"):
        nearest(x, y, 1, index="faiss")


def test_an_unknown_index():
    x, y = sides(4, 4)
    for call in (nearest, nearest_both):
        with pytest.raises(InputError, match="index: got 'hnsw', expected one of 'exact', 'faiss'"):
            call(x, y, 1, index="hnsw")
    with pytest.raises(InputError, match="index: got 'hnsw'"):
        ems_fast.mine(NgramEncoder(), ["a"], ["b"], k=1, index="hnsw")


class TestFaiss:
    @pytest.fixture(autouse=True)
    def faiss(self):
        return pytest.importorskip("faiss")

    def test_finds_most_and_scores_exactly(self):
        x, y = sides(1500, 6000)
        exact, found = nearest(x, y, 4), nearest(x, y, 4, index="faiss")
        assert found.indices.shape == found.scores.shape == (1500, 4)
        assert (found.indices.dtype, found.scores.dtype) == (np.int64, np.float32)
        hits = (found.indices[:, :, None] == exact.indices[:, None, :]).any(axis=1)
        assert hits.mean() > 0.95
        unit = [v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, y)]
        cosines = np.einsum("nd,nkd->nk", unit[0], unit[1][found.indices])
        np.testing.assert_allclose(found.scores, cosines, atol=2e-6)
        assert (np.diff(found.scores, axis=1) <= 0).all()

    @pytest.mark.parametrize(("n", "m", "k"), [(1, 1, 1), (3, 2, 2), (50, 30, 30), (5, 200, 199)])
    def test_small_and_few(self, n, m, k):
        x, y = sides(n, m)
        found = nearest(x, y, k, index="faiss")
        assert all(len(set(row)) == k for row in found.indices.tolist())
        np.testing.assert_allclose(found.scores, nearest(x, y, k).scores, atol=0.3)

    def test_shards(self):
        x, y = sides(300, 900)
        parts = Embeddings.of(np.split(y, [100, 100, 650]))
        a, b = nearest_both(x, parts, 3, index="faiss"), nearest_both(x, y, 3, index="faiss")
        for shards, whole in zip(a, b, strict=True):
            assert np.array_equal(shards.indices, whole.indices)

    def test_mining_finds_the_same_pairs(self):
        x, y = sides(2000, 2000)
        exact, found = mine_vectors(x, y), mine_vectors(x, y, index="faiss")
        both = set(zip(exact.source_indices, exact.target_indices, strict=True)) & set(
            zip(found.source_indices, found.target_indices, strict=True)
        )
        assert len(both) > 0.97 * len(exact)

    def test_mining_sentences(self):
        source, target = zip(*pairs("de", 40), strict=True)
        found = ems_fast.mine(NgramEncoder(), source, target, index="faiss")
        assert len(found) > 0
        assert found.source_sentences == source

    def test_the_row_that_is_not_finite_is_named(self):
        x, y = sides(10, 500)
        y[321, 0] = np.nan
        with pytest.raises(InputError, match="row 321 holds NaN"):
            nearest(x, y, 2, index="faiss")


def test_exact_search_reads_shards():
    x, y = sides(60, 90)
    parts = Embeddings.of(np.split(y, [20, 20, 77]))
    for a, b in zip(nearest_both(x, parts, 3), nearest_both(x, y, 3), strict=True):
        assert np.array_equal(a.indices, b.indices)
        assert np.array_equal(a.scores, b.scores)
    assert np.array_equal(mine_vectors(x, parts).scores, mine_vectors(x, y).scores)
