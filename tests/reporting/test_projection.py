from __future__ import annotations

import numpy as np
import pytest

from ems_fast.reporting.projection import affinities, gradient, neighbours_kept, pca, tsne
from ems_fast.reporting.sentence_map import _LEAST, apart


def clusters(count: int, size: int, width: int = 32, noise: float = 0.3) -> tuple:
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((count, width))
    vectors = np.repeat(centres, size, axis=0) + noise * rng.standard_normal((count * size, width))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors.astype(np.float32), np.repeat(np.arange(count), size)


def test_pca_finds_the_widest_directions() -> None:
    rng = np.random.default_rng(1)
    plane = rng.standard_normal((50, 2)) * (5, 2)
    turn, _ = np.linalg.qr(rng.standard_normal((9, 9)))
    found = pca(plane @ turn[:2] + 3)
    distances = [np.linalg.norm(p[:, None] - p, axis=-1) for p in (plane, found)]
    np.testing.assert_allclose(*distances, atol=1e-9)
    assert found[:, 0].std() > found[:, 1].std()
    assert pca(np.ones((4, 1))).tolist() == [[0, 0]] * 4  # too narrow, and all the same


def test_affinities_have_the_perplexity() -> None:
    vectors, _ = clusters(6, 5)
    shares = affinities(vectors, 7.0)
    assert shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(shares, shares.T)
    assert not shares.diagonal().any()
    # Far from all others, a point still has neighbours.
    far = np.concatenate([vectors, 1000 * np.ones((1, 32), np.float32)])
    assert affinities(far, 7.0)[-1].sum() > 0.01


def test_gradient_is_that_of_the_divergence() -> None:
    vectors, _ = clusters(3, 4)
    wanted = affinities(vectors, 3.0)
    points = np.random.default_rng(2).standard_normal((12, 2))

    def divergence(at: np.ndarray) -> float:
        near = 1 / (1 + np.square(at[:, None] - at).sum(-1))
        np.fill_diagonal(near, 0)
        shares = near / near.sum()
        of = wanted > 0
        return float((wanted[of] * np.log(wanted[of] / shares[of])).sum())

    slope = gradient(wanted, points)
    for i, j in ((0, 0), (5, 1), (11, 0)):
        step = np.zeros_like(points)
        step[i, j] = 1e-5
        expected = (divergence(points + step) - divergence(points - step)) / 2e-5
        assert slope[i, j] == pytest.approx(expected, rel=1e-4)


def test_tsne_keeps_translations_together_where_pca_cannot() -> None:
    vectors, groups = clusters(20, 6)
    assert neighbours_kept(vectors, groups) > 0.99
    assert neighbours_kept(pca(vectors), groups) < 0.9
    found = tsne(vectors)
    assert neighbours_kept(found, groups) > 0.97
    np.testing.assert_array_equal(found, tsne(vectors))


@pytest.mark.parametrize("n", [1, 2, 7])
def test_few_points_and_equal_ones(n: int) -> None:
    vectors, _ = clusters(n, 1)
    assert tsne(vectors).shape == (n, 2)
    same = np.ones((20, 4), np.float32) / 2
    assert not tsne(same).any()


def test_marks_are_moved_apart() -> None:
    places = np.full((30, 2), 0.5)
    places[:3] = [[0, 0], [1, 1], [0.2, 0.8]]
    moved = apart(places)
    distances = np.hypot(*(moved[:, None] - moved).T) + np.eye(30)
    assert distances.min() > 0.4 * _LEAST
    np.testing.assert_array_equal(moved[:3], places[:3])
