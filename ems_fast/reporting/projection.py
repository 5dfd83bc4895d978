"""Two dimensions out of many: principal components, and t-SNE that begins with them.

t-SNE (van der Maaten and Hinton 2008) in its exact form, which for the few hundred sentences of a
map takes a second and no further package. Shapes: n points, D their width.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]

PERPLEXITY = 12.0  # the neighbours of a point that count: about as many as it has translations
ITERATIONS = 400
# As the paper has it: clusters form while attraction is exaggerated, then settle.
_EXAGGERATION, _EXAGGERATED = 12.0, 100
_FEWEST = 8  # points, below which neighbourhoods say nothing


def pca(vectors: FloatArray, dimensions: int = 2) -> FloatArray:
    """The first principal components of `vectors` [n, D], as float64 [n, dimensions].

    Each component's sign is that which makes its largest value positive; what the vectors lack in
    dimensions is zero.
    """
    centred = np.asarray(vectors, np.float64)
    centred = centred - centred.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    found = (u * s)[:, :dimensions]
    largest = np.take_along_axis(found, np.abs(found).argmax(axis=0)[None], axis=0)
    found = found * np.where(largest < 0, -1.0, 1.0)
    return np.pad(found, ((0, 0), (0, dimensions - found.shape[1])))


def tsne(vectors: FloatArray, *, perplexity: float = PERPLEXITY) -> FloatArray:
    """Points [n, 2] whose neighbours are those that `vectors` [n, D], of length 1, have.

    Gradient descent with momentum on the Kullback-Leibler divergence, from `pca`: no random number
    is drawn. Fewer than eight vectors stay where `pca` puts them.
    """
    begin = pca(vectors)
    n = len(begin)
    spread = begin.std()
    if n < _FEWEST or spread == 0:
        return begin
    # Single precision is enough to move points by, and halves the time.
    wanted = affinities(vectors, min(perplexity, (n - 1) / 3)).astype(np.float32)
    points = (begin / spread * 1e-4).astype(np.float32)
    velocity, gains = np.zeros_like(points), np.ones_like(points)
    rate = max(n / _EXAGGERATION / 4, 50.0)
    for step in range(ITERATIONS):
        early = step < _EXAGGERATED
        slope = gradient(wanted * _EXAGGERATION if early else wanted, points)
        gains = np.where(slope * velocity < 0, gains + 0.2, gains * 0.8).clip(0.01, None)
        velocity = (0.5 if early else 0.8) * velocity - rate * gains * slope
        points = points + velocity
    centred: FloatArray = points - points.mean(axis=0)
    return centred


def affinities(vectors: FloatArray, perplexity: float) -> FloatArray:
    """How much point j is a neighbour of i, symmetric and with sum 1, float64 [n, n].

    A Gaussian about each point, as wide as gives its distribution over the others the perplexity.
    """
    vectors = np.asarray(vectors, np.float64)
    squares = np.square(vectors).sum(axis=1)
    distances = squares[:, None] + squares - 2 * vectors @ vectors.T  # (n, n)
    np.fill_diagonal(distances, np.inf)
    distances -= distances.min(axis=1, keepdims=True)  # of which the distribution knows nothing
    low, high = np.full((len(vectors), 1), -20.0), np.full((len(vectors), 1), 20.0)
    for _ in range(40):  # bisection over the logarithm of the precision
        middle = (low + high) / 2
        weights = np.exp(-distances * np.exp(middle))
        shares = weights / weights.sum(axis=1, keepdims=True)
        entropy = -(shares * np.log(shares + 1e-300)).sum(axis=1, keepdims=True)
        wide = entropy > np.log(perplexity)
        low, high = np.where(wide, middle, low), np.where(wide, high, middle)
    joint: FloatArray = (shares + shares.T) / (2 * len(vectors))
    return joint


def gradient(wanted: FloatArray, points: FloatArray) -> FloatArray:
    """Of the divergence of the points' [n, 2] affinities (Student's t) from those `wanted`."""
    squares = np.square(points).sum(axis=1)
    near = 1 / (1 + (squares[:, None] + squares - 2 * points @ points.T).clip(min=0))
    np.fill_diagonal(near, 0.0)
    forces = (wanted - near / near.sum()) * near
    pull: FloatArray = 4 * (forces.sum(axis=1, keepdims=True) * points - forces @ points)
    return pull


def neighbours_kept(points: FloatArray, groups: npt.NDArray[np.int64]) -> float:
    """The share of points whose nearest other point is of their own group; 0 for a single one."""
    if len(points) < 2:
        return 0.0
    points = np.asarray(points, np.float64)
    squares = np.square(points).sum(axis=1)
    distances = squares[:, None] + squares - 2 * points @ points.T
    np.fill_diagonal(distances, np.inf)
    return float((groups[distances.argmin(axis=1)] == groups).mean())
