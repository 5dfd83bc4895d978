"""Approximate nearest neighbours with faiss, for more vectors than exact search can compare."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from ems_fast.errors import BackendError, InputError
from ems_fast.mining.exact import Neighbors, Vectors, blocks, rank, unit_rows, width
from ems_fast.ops.threads import num_threads

Floats = npt.NDArray[np.float32]

# Vectors that the clustering is trained on, per cluster: more does not make it better.
SAMPLE_PER_CLUSTER = 64
# Clusters searched: this many, and a share of them all.
MIN_PROBES = 16
PROBE_SHARE = 1 / 32
# Candidates taken from the index for each neighbour asked for, then ranked by their exact cosine.
CANDIDATES = 4
# Signs tell less, and cost less to compare.
BINARY_CANDIDATES = 32
# Signs of so many items are all compared; of more, those of some clusters.
FLAT_ITEMS = 1_000_000
BLOCK = 4096


def nearest_faiss(
    queries: Vectors, items: Vectors, k: int, *, names: tuple[str, str], index: str = "faiss"
) -> Neighbors:
    """Find most of the k items with the highest cosine for each query, for `nearest`.

    The items are clustered (about 4·√m clusters) and held as one byte a dimension; each query is
    compared with those of the nearest clusters, and the best 4·k of them are ranked by their exact
    cosine, read from `items`. So the scores are exact, but a neighbour may be missed.

    The index ``"binary"`` holds one bit a dimension, its sign. A query is compared by Hamming
    distance with all items, from a million on with those of the nearest clusters, and the best 32·k
    are ranked as above: by their exact cosine where `items` are floats or bytes.

    Memory beside the inputs and the result: m·(D + 8) bytes for the index, about 512·√m·D·4 bytes
    while it is made, and blocks of a few thousand vectors; for ``"binary"`` m·(D / 8 + 8) bytes.
    Inputs may be memory-mapped or sharded.

    The arguments were checked by `ems_fast.mining.exact.nearest`, but for their values.

    Raises:
        BackendError: faiss is not installed.
        InputError: vectors that are not finite.
    """
    faiss = require_faiss(index)
    binary = index == "binary"
    built = (_build_binary if binary else _build)(faiss, items, names[1])
    n, m = len(queries), len(items)
    wanted = min(m, (BINARY_CANDIDATES if binary else CANDIDATES) * k)
    indices = np.empty((n, k), np.int64)
    scores = np.empty((n, k), np.float32)
    for start, stop in blocks(n, max(1, BLOCK // max(1, wanted // 16))):
        block = unit_rows(names[0], queries, start, stop)  # (b, D)
        asked = _bits(block) if binary else block
        _, found = built.search(asked, wanted)  # (b, wanted), −1 where there are too few
        if (found < 0).any():
            # Too few items in the clusters searched: look at all of them for these queries.
            short = np.flatnonzero((found < 0).any(axis=1))
            probes, built.nprobe = built.nprobe, built.nlist
            _, found[short] = built.search(asked[short], wanted)
            built.nprobe = probes
        best = rank(block, items, found, k, names[1])
        indices[start:stop], scores[start:stop] = best.indices, best.scores
    return Neighbors(indices, scores)


def _bits(rows: Floats) -> npt.NDArray[np.uint8]:
    """The signs of rows [b, D] with D a multiple of 8 or filled up to one, eight in a byte."""
    return np.packbits(rows > 0, axis=1)


def _build_binary(faiss: ModuleType, items: Vectors, name: str) -> Any:
    """An index of the signs of the items [m, D]: all of them, or from a million on in clusters."""
    m, D = len(items), -(-width(items) // 8) * 8
    index = faiss.IndexBinaryFlat(D)
    if m > FLAT_ITEMS:
        clusters = int(4 * math.sqrt(m))
        index = faiss.IndexBinaryIVF(index, D, clusters)
        index.cp.max_points_per_centroid = SAMPLE_PER_CLUSTER
        index.cp.min_points_per_centroid = 1
        index.train(_bits(_sample(items, SAMPLE_PER_CLUSTER * clusters, name)))
        index.nprobe = max(MIN_PROBES, int(clusters * PROBE_SHARE))
    for start, stop in blocks(m, BLOCK):
        index.add(_bits(unit_rows(name, items, start, stop)))
    return index


def _sample(items: Vectors, size: int, name: str) -> Floats:
    """At most `size` of the items, evenly spaced: of the whole file, and the same every time."""
    sample = np.linspace(0, len(items) - 1, min(len(items), size), dtype=np.int64)
    try:
        return unit_rows(name, items[sample], 0, len(sample))
    except InputError:  # it counts rows in the sample: find the row itself
        for start, stop in blocks(len(items), BLOCK):
            unit_rows(name, items, start, stop)
        raise


def _build(faiss: ModuleType, items: Vectors, name: str) -> Any:
    """An inverted file of the items [m, D], one byte a dimension."""
    m, D = len(items), width(items)
    clusters = max(1, min(int(4 * math.sqrt(m)), m // 39))
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(D), D, clusters, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.max_points_per_centroid = SAMPLE_PER_CLUSTER
    index.cp.min_points_per_centroid = 1
    index.cp.spherical = True
    index.train(_sample(items, SAMPLE_PER_CLUSTER * clusters, name))
    for start, stop in blocks(m, BLOCK):
        index.add(unit_rows(name, items, start, stop))
    index.nprobe = min(clusters, max(MIN_PROBES, int(clusters * PROBE_SHARE)))
    return index


def require_faiss(index: str) -> ModuleType:
    """The module; `BackendError` says how to install it."""
    try:
        import faiss
    except ImportError as error:
        raise BackendError(
            f"index={index!r} needs faiss, which cannot be imported ({error}); install it with "
            "`pip install 'ems-fast[faiss]'`, or use index='exact'"
        ) from error
    faiss.omp_set_num_threads(num_threads())
    module: ModuleType = faiss
    return module
