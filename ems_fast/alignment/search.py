"""From coarse to fine: an alignment in time and memory proportional to the lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ems_fast.alignment.band import Band, Path
from ems_fast.alignment.path import FloatArray, Side, cheapest_path
from ems_fast.mining.exact import NORM_EPS

# A document of at most this many lines is searched whole; a longer one first with its lines
# averaged two by two, around the path of which the lines themselves are then searched.
WHOLE_LINES = 256
# How far from the coarse path, in lines: what 2 × 2 lines hide, and some error of that path.
RADIUS = 8
# Before anything is aligned, leaving a line alone costs half of what this share of random pairs of
# lines costs at most: two that are no nearer to each other than those are both left alone.
RANDOM_SHARE = 0.2
RANDOM_SAMPLES = 1 << 14
# Then it costs what this share of lines that were aligned one to one costs at most.
ALIGNED_SHARE = 0.75
# But at least this, or the lines of a document and its copy could as well be left alone.
LEAST_SKIP = 0.1
# What twice the length costs, where 1 is the mean distance of two lines.
DOUBLE_LENGTH = 0.25
# Distances below this are raised to it, where all lines of a document are alike.
MIN_DISTANCE = 1e-3


def search(sides: tuple[Side, Side]) -> Path:
    """The cheapest alignment of two documents (after Thompson and Koehn 2019, sections 3 and 4).

    What leaving a line alone costs is learnt from the documents: the lines are aligned one to one,
    which takes a small part of the time, and its cost is a quantile of what the found pairs cost.
    The paper takes a quantile of random pairs' costs, which says how different texts of the two
    languages are, but not how far apart translations are for this encoder and these languages.
    """
    single = tuple(Side(s.vectors[:1], s.distances[:1], s.lengths[:1]) for s in sides)
    band, path = _single_path((single[0], single[1]))
    pairs = (np.diff(path.source) == 1) & (np.diff(path.target) == 1)
    skip = _random_skip((single[0], single[1]))
    if pairs.any():
        i, j = path.source[:-1][pairs], path.target[:-1][pairs]
        aligned = np.quantile(block_costs(sides, i, j, 1, 1), ALIGNED_SHARE)
        skip = max(float(aligned), LEAST_SKIP)
    return cheapest_path(*sides, band, skip)[0]


def _single_path(sides: tuple[Side, Side]) -> tuple[Band, Path]:
    """An alignment of single lines, and the band that it was found in."""
    n, m = map(len, sides)
    if max(n, m) <= WHOLE_LINES or min(n, m) == 1:
        band = Band.whole(n, m)
    else:
        halves = [_halved(side.vectors) for side in sides]
        _, coarse = _single_path(make_sides(halves, [np.zeros(h.shape[:2]) for h in halves]))
        doubled = Path(np.minimum(2 * coarse.source, n), np.minimum(2 * coarse.target, m))
        band = Band.around(doubled, RADIUS)
    return band, cheapest_path(*sides, band, _random_skip(sides))[0]


def make_sides(
    vectors: Sequence[FloatArray], lengths: Sequence[npt.NDArray[np.floating]]
) -> tuple[Side, Side]:
    """Both documents with each block's mean distance to the lines of the other.

    The paper takes the mean over a random sample of lines. Over all of them it is one product:
    the mean of cosines to vectors of length 1 is the product with their mean.

    Args:
        vectors: float32 [S, n, D] and [S, m, D], of length 1 or zero, as `Side` has them.
        lengths: [S, n] and [S, m], in units of cost.
    """
    sides = []
    for own, other, length in zip(vectors, reversed(vectors), lengths, strict=True):
        distances = 1 - own @ other[0].mean(axis=0, dtype=np.float64).astype(np.float32)
        distances = np.maximum(distances, np.float32(MIN_DISTANCE))
        sides.append(Side(own, distances, length.astype(np.float32)))
    return sides[0], sides[1]


def log_lengths(lines: Sequence[str], most: int) -> npt.NDArray[np.float64]:
    """Lengths of all runs of 1 to `most` lines in units of cost, float64 [most, n].

    They are logarithms of characters, less their mean over the lines, so that languages that need
    more or fewer of them can be compared.
    """
    n = len(lines)
    sums = np.concatenate([[0], np.cumsum([len(line) + 1 for line in lines])])
    lengths = np.zeros((most, n))
    for size in range(1, min(most, n) + 1):
        lengths[size - 1, : n - size + 1] = np.log2(sums[size:] - sums[:-size])
    costs: npt.NDArray[np.float64] = DOUBLE_LENGTH * (lengths - lengths[0].mean())
    return costs


def _random_skip(sides: tuple[Side, Side]) -> float:
    rng = np.random.default_rng(0)
    i, j = (rng.integers(len(side), size=RANDOM_SAMPLES) for side in sides)
    # Of short documents, many random pairs are translations of each other.
    share = RANDOM_SHARE + (1 - RANDOM_SHARE) / max(map(len, sides))
    both = float(np.quantile(block_costs(sides, i, j, 1, 1), share))
    return max(both / 2 + MIN_DISTANCE, LEAST_SKIP)


def block_costs(
    sides: tuple[Side, Side], i: npt.NDArray[np.int64], j: npt.NDArray[np.int64], n: int, m: int
) -> FloatArray:
    """float32 [k]: `block_distances` and what the lengths add, the costs of blocks by n m."""
    source, target = sides
    lengths = source.lengths[n - 1, i] - target.lengths[m - 1, j]
    costs: FloatArray = block_distances(sides, i, j, n, m) + np.abs(lengths)
    return costs


def block_distances(
    sides: tuple[Side, Side], i: npt.NDArray[np.int64], j: npt.NDArray[np.int64], n: int, m: int
) -> FloatArray:
    """float32 [k]: ``(1 − cosine) / d`` of blocks of n and m lines that begin at lines i and j.

    0 is the same vector, and 1 as far apart as a line of one document is from the other on average.
    """
    source, target = sides
    cosine = np.einsum("kd,kd->k", source.vectors[n - 1, i], target.vectors[m - 1, j])
    distance = (source.distances[n - 1, i] + target.distances[m - 1, j]) / 2
    distances: FloatArray = (1 - cosine) / distance
    return distances


def _halved(vectors: FloatArray) -> FloatArray:
    """The means of two lines each, of length 1 again: [1, n, D] → [1, ⌈n / 2⌉, D]."""
    n = vectors.shape[1]
    halved = vectors[:, ::2].copy()
    halved[:, : n // 2] += vectors[:, 1::2]
    halved /= np.maximum(np.linalg.norm(halved, axis=2, keepdims=True), NORM_EPS)
    return halved
