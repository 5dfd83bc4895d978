from __future__ import annotations

import numpy as np
import pytest

import ems_fast
from ems_fast import InputError
from ems_fast.mining import mine_vectors

DIMENSIONS = 64
WORDS = [f"word{i}" for i in range(300)]


class Random:
    """A random vector for every text."""

    def encode(self, sentences: list[str], *, normalize: bool = False) -> np.ndarray:
        return np.stack(
            [
                np.random.default_rng(list(text.encode())).standard_normal(DIMENSIONS)
                for text in sentences
            ]
        ).astype(np.float32)


@pytest.mark.parametrize("precision", ["float32", "int8", "ubinary"])
@pytest.mark.parametrize("dim", [None, 40])
def test_search_finds_the_nearest(precision: str, dim: int | None) -> None:
    queries = ["something", WORDS[7]]
    found = ems_fast.search(Random(), WORDS, queries, k=3, precision=precision, dim=dim)
    x, y = (Random().encode(side)[:, :dim].astype(np.float64) for side in (queries, WORDS))
    cosines = x @ y.T / np.linalg.norm(x, axis=1)[:, None] / np.linalg.norm(y, axis=1)
    # Of 32 · 3 candidates by their bits, the three best by cosine are among them here; bytes may
    # exchange two that are nearly as near.
    tolerance = 0.01 if precision == "int8" else 1e-6
    np.testing.assert_allclose(found.scores, -np.sort(-cosines, axis=1)[:, :3], atol=tolerance)
    at = np.take_along_axis(cosines, found.indices, axis=1)
    np.testing.assert_allclose(found.scores, at, atol=tolerance)


@pytest.mark.parametrize("precision", ["int8", "ubinary"])
def test_mining_takes_small_vectors(table_run, precision: str) -> None:
    encoder = ems_fast.load(table_run)
    sides = ["bade gi", "mo teru", "kafu"], ["teru bade nile", "mo", "gi gi kafu", "nile"]
    found = ems_fast.mine(encoder, *sides, k=2, precision=precision, dim=16)
    wanted = mine_vectors(
        *(encoder.encode(side, precision=precision, dim=16) for side in sides), k=2
    )
    np.testing.assert_array_equal(found.source_indices, wanted.source_indices)
    np.testing.assert_array_equal(found.target_indices, wanted.target_indices)
    np.testing.assert_array_equal(found.scores, wanted.scores)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 301}, "k: got 301 neighbours, but there are only 300 sentences"),
        ({"precision": "int4"}, "precision: got 'int4'"),
        ({"dim": 65}, "dim: got 65, expected None or a whole number from 1 to 64"),
        ({"dim": 12, "precision": "ubinary"}, "dim: got 12 with precision='ubinary'"),
        ({"index": "hnsw"}, "index: got 'hnsw'"),
    ],
)
def test_bad_input(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ems_fast.search(Random(), WORDS, ["x"], **options)
    with pytest.raises(InputError, match="queries: got one string"):
        ems_fast.search(Random(), WORDS, "x")
