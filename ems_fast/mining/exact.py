"""Nearest neighbours by cosine, both ways, from one pass of products in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from ems_fast.encoding.embeddings import Embeddings, holds_vectors
from ems_fast.errors import InputError, check, check_one_of
from ems_fast.mining.arrays import Array, Arrays, arrays_on

if TYPE_CHECKING:
    import torch

# float16, float32, float64 or int8 [n, D], or bits in uint8 [n, D / 8], which stand for ±1;
# memory-mapped arrays and shards are read block by block.
Vectors = npt.NDArray[Any] | Embeddings
Index = Literal["exact", "faiss", "binary"]
INDEXES: tuple[str, ...] = get_args(Index)

# Norms below this are raised to it, so that a zero vector has cosine 0 with everything.
NORM_EPS = 1e-12
# Scores are first reduced to the maximum of this many cells, which is one vectorised pass; only the
# k chunks with the largest maxima can hold one of the k largest scores.
CHUNK = 16
MEMORY_BYTES = 128 << 20
# Larger blocks make the products no faster.
MAX_SIDE = 4096
MIN_SIDE = 64


@dataclass(frozen=True)
class Neighbors:
    """The k nearest items of n queries, nearest first.

    Attributes:
        indices: int64 [n, k], rows of the items.
        scores: float32 [n, k], cosines, descending. Which of several items with the same score
            comes first, or in at all, is not specified.
    """

    indices: npt.NDArray[np.int64]
    scores: npt.NDArray[np.float32]

    def mean_scores(self) -> npt.NDArray[np.float32]:
        """float32 [n]: the mean cosine of a query to its k neighbours."""
        means: npt.NDArray[np.float32] = self.scores.mean(axis=1, dtype=np.float32)
        return means


def nearest(
    queries: Vectors,
    items: Vectors,
    k: int,
    *,
    memory_bytes: int = MEMORY_BYTES,
    device: torch.device | str = "cpu",
    names: tuple[str, str] = ("queries", "items"),
    index: Index = "exact",
) -> Neighbors:
    """Find the k items [m, D] with the highest cosine for each query [n, D].

    Vectors, options and errors are those of `nearest_both`, but k may be up to m; `names` are what
    messages call the two.
    """
    check_one_of("index", index, INDEXES)
    check_pair(names[0], queries, names[1], items)
    check_k(k, names[1], len(items))
    return _search(queries, items, names, k, memory_bytes, device, index, both=False)[0]


def nearest_both(
    source_vectors: Vectors,
    target_vectors: Vectors,
    k: int,
    *,
    memory_bytes: int = MEMORY_BYTES,
    device: torch.device | str = "cpu",
    index: Index = "exact",
) -> tuple[Neighbors, Neighbors]:
    """Find the k nearest targets of each source and the k nearest sources of each target.

    Every product is computed once, in float32, and serves both directions. Beside the inputs
    and the result (12·k bytes a vector) the search needs about `memory_bytes`: its blocks are
    sized to it, though never under 64 rows a side. Nothing of size n × m is held, and no copy
    of an input is made, so memory-mapped arrays stay on disk.

    Args:
        source_vectors: [n, D] of any float dtype, or int8 or bits as `encode` gives them; need not
            be normalised. The two sides may differ in dtype.
        target_vectors: [m, D].
        k: neighbours a vector, from 1 to min(n, m).
        memory_bytes: working memory; more than the default brings no speed.
        device: where the products are computed; torch does so on any other than ``"cpu"``.
        index: ``"exact"`` compares all with all; ``"faiss"`` makes an approximate index of each
            side in turn, on the CPU, as `ems_fast.mining.faiss.nearest_faiss` describes;
            ``"binary"`` an index of one bit a dimension.

    Returns:
        The neighbours of the source vectors (rows of `target_vectors`), and those of the target
        vectors (rows of `source_vectors`).

    Raises:
        InputError: vectors that are empty, not finite or of different widths; k out of range; an
            unknown index.
        BackendError: faiss is asked for and not installed.
    """
    check_one_of("index", index, INDEXES)
    names = ("source_vectors", "target_vectors")
    check_pair(names[0], source_vectors, names[1], target_vectors)
    check_k(k, "source vectors", len(source_vectors))
    check_k(k, "target vectors", len(target_vectors))
    forward, backward = _search(
        source_vectors, target_vectors, names, k, memory_bytes, device, index, both=True
    )
    return forward, backward


def check_k(k: int, name: str, count: int | None = None) -> None:
    """Raise `InputError` unless 1 ≤ k ≤ count; `name` says what there are `count` of."""
    whole = isinstance(k, int | np.integer) and not isinstance(k, bool)
    check(whole and k >= 1, "k", k, "a whole number of at least 1")
    if count is not None and k > count:
        raise InputError(
            f"k: got {k} neighbours, but there are only {count} {name}; "
            f"pass k={count} or less, or more of them"
        )


def check_pair(name: str, vectors: Vectors, other_name: str, other: Vectors) -> None:
    """Raise `InputError` unless both are non-empty float arrays [n, D] of the same width."""
    for side, given in ((name, vectors), (other_name, other)):
        if not isinstance(given, np.ndarray | Embeddings):
            raise InputError(f"{side}: got a {type(given).__name__}, expected a NumPy array [n, D]")
        if not holds_vectors(given.dtype):
            raise InputError(
                f"{side}: got dtype {given.dtype}, expected a float array [n, D], int8 or bits in "
                "uint8"
            )
        if given.ndim != 2 or 0 in given.shape:
            raise InputError(
                f"{side}: got an array of shape {given.shape}, "
                f"expected [n, D] with at least one vector"
            )
    if width(vectors) != width(other):
        raise InputError(
            f"{name} and {other_name}: have {width(vectors)} and {width(other)} dimensions, "
            f"expected the same; were they encoded by the same model?"
        )


def width(vectors: Vectors) -> int:
    """D, the dimensions of vectors; of bits, eight a column."""
    columns: int = vectors.shape[1]
    return 8 * columns if vectors.dtype == np.uint8 else columns


def check_pairs(name: str, vectors: Vectors, other_name: str, other: Vectors) -> None:
    """Raise `InputError` unless both are vectors of the same width and number, row by row pairs."""
    check_pair(name, vectors, other_name, other)
    if len(vectors) != len(other):
        raise InputError(
            f"{name} and {other_name}: have {len(vectors)} and {len(other)} rows, "
            f"expected the same number: row i of one is the translation of row i of the other"
        )


def unit_rows(name: str, vectors: Vectors, start: int, stop: int) -> npt.NDArray[np.float32]:
    """Copy rows start:stop of `vectors`, scaled to length 1: float32 [stop − start, D].

    Raises:
        InputError: one of the rows is not finite.
    """
    rows: npt.NDArray[np.float32] = _unit_rows(Arrays(), name, vectors, start, stop)
    return rows


def _unit_rows(arrays: Arrays, name: str, vectors: Vectors, start: int, stop: int) -> Array:
    """As `unit_rows`, where those arrays are."""
    with np.errstate(over="ignore"):  # what overflows is reported below
        # A copy: the caller's array may be read-only, and stays as it is.
        given = vectors[start:stop]
        if given.dtype == np.uint8:
            given = np.unpackbits(given, axis=1).astype(np.float32) * 2 - 1
        rows = arrays.of(np.array(given, dtype=np.float32, order="C"))
        lengths = arrays.lengths(rows)  # (b, 1)
    finite = np.isfinite(arrays.numpy(lengths)[:, 0])
    if not finite.all():
        raise InputError(
            f"{name}: row {start + int((~finite).argmax())} holds NaN, infinity or a value too "
            f"large for float32; expected finite vectors"
        )
    rows /= lengths.clip(min=NORM_EPS)
    return rows


def rank(
    queries: npt.NDArray[np.float32],
    items: Vectors,
    candidates: npt.NDArray[np.int64],
    k: int,
    name: str,
) -> Neighbors:
    """The k best of each query's candidates [b, c], rows of `items`, by their exact cosine.

    The queries [b, D] are of length 1, and messages call the items `name`.
    """
    distinct, place = np.unique(candidates, return_inverse=True)
    vectors = unit_rows(name, items[distinct], 0, len(distinct))  # (u, D)
    place = place.reshape(candidates.shape)
    cosines = np.empty(candidates.shape, np.float32)
    for start, stop in blocks(len(candidates), 256):
        near = vectors[place[start:stop]]  # (b', c, D)
        cosines[start:stop] = (near @ queries[start:stop, :, None])[:, :, 0]
    best = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    return Neighbors(
        np.take_along_axis(candidates, best, axis=1), np.take_along_axis(cosines, best, axis=1)
    )


def blocks(count: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of consecutive blocks of at most `size`."""
    for start in range(0, count, size):
        yield start, min(start + size, count)


def block_side(D: int, k: int, memory_bytes: int) -> int:
    """Rows and columns of a square block of scores that keeps the search within `memory_bytes`."""
    check(memory_bytes >= 1, "memory_bytes", memory_bytes, "a positive number of bytes")
    # A row (or column) costs its vector twice (as read, as float32 scaled) and its candidates:
    # k chunks of scores and int64 indices. A cell costs its score, and of a chunk's maximum that
    # and an int64 index.
    each = 2 * (8 * D + 16 * k * CHUNK)
    cell = 4 + 12 / CHUNK
    side = int((math.sqrt(each**2 + 4 * cell * memory_bytes) - each) / (2 * cell))
    return min(max(MIN_SIDE, side // CHUNK * CHUNK), MAX_SIDE)


def _search(
    source: Vectors,
    target: Vectors,
    names: tuple[str, str],
    k: int,
    memory_bytes: int,
    device: torch.device | str,
    index: Index,
    *,
    both: bool,
) -> list[Neighbors]:
    """The neighbours of the source vectors and, if asked for both, those of the target vectors."""
    if index != "exact":
        from ems_fast.mining.faiss import nearest_faiss

        ways = [(source, target, names), (target, source, names[::-1])][: 1 + both]
        return [nearest_faiss(a, b, k, names=called, index=index) for a, b, called in ways]
    n, m = len(source), len(target)
    side = block_side(width(source), k, memory_bytes)
    arrays = arrays_on(device)
    best = [_Best(arrays, count, k) for count in ((n, m) if both else (n,))]
    scores = arrays.empty(min(side, n) * min(side, m))
    for i, i_end in blocks(n, side):
        queries = _unit_rows(arrays, names[0], source, i, i_end)  # (b, D)
        for j, j_end in blocks(m, side):
            items = _unit_rows(arrays, names[1], target, j, j_end)  # (c, D)
            block = scores[: (i_end - i) * (j_end - j)].reshape(i_end - i, j_end - j)
            arrays.products(queries, items, block)  # (b, c)
            best[0].add(block, 1, i, j)
            if both:
                best[1].add(block, 0, j, i)
    return [side_best.result() for side_best in best]


class _Best:
    """The k best so far of each of n queries."""

    def __init__(self, arrays: Arrays, n: int, k: int):
        self.k, self.arrays = k, arrays
        self.scores = arrays.of(np.full((n, k), -np.inf, np.float32))
        self.indices = arrays.of(np.full((n, k), -1, np.int64))

    def add(self, block: Array, axis: int, start: int, offset: int) -> None:
        """Compare a block of scores, whose lines along `axis` are of the queries `start` and after.

        The places along a line are those of the items `offset` and after.
        """

        def add_lines(part: slice) -> None:
            own = block[part] if axis == 1 else block[:, part]
            scores, places = _top(self.arrays, own, self.k, axis)
            rows = slice(start + part.start, start + part.stop)
            scores = self.arrays.join([self.scores[rows], scores])
            indices = self.arrays.join([self.indices[rows], places + offset])
            kept = self.arrays.largest(scores, self.k)
            self.scores[rows] = self.arrays.take(scores, kept)
            self.indices[rows] = self.arrays.take(indices, kept)

        self.arrays.each(block.shape[1 - axis], add_lines)

    def result(self) -> Neighbors:
        scores, indices = self.arrays.numpy(self.scores), self.arrays.numpy(self.indices)
        order = np.argsort(-scores, axis=1, kind="stable")
        return Neighbors(
            np.take_along_axis(indices, order, axis=1), np.take_along_axis(scores, order, axis=1)
        )


def _top(arrays: Arrays, block: Array, k: int, axis: int) -> tuple[Array, Array]:
    """The largest scores of each line of block [b, c] along `axis`, and their places in the line.

    Returns:
        [b, min(k, c)] both for axis 1, [c, min(k, b)] for axis 0, in any order.
    """
    lines = block if axis == 1 else block.T
    length = lines.shape[1]
    chunks = length // CHUNK
    if chunks <= 2 * k:
        places = arrays.largest(lines, min(k, length))
        return arrays.take(lines, places), places
    # Chunk c has the cells c, c + chunks, c + 2 · chunks and so on, and maxima are taken from the
    # block as it lies: so they are maxima of whole rows, or of long parts of them.
    if axis == 1:
        whole = lines[:, : chunks * CHUNK].reshape(len(lines), CHUNK, chunks)
        maxima = arrays.maxima(whole, 1)  # (lines, chunks)
    else:
        whole = block[: chunks * CHUNK].reshape(CHUNK, chunks, len(lines))
        maxima = arrays.maxima(whole, 0).T
    best = arrays.largest(maxima, k)  # (lines, k)
    # The cells of these chunks, and those after the last chunk.
    cells = (best[:, :, None] + chunks * arrays.arange(0, CHUNK)).reshape(len(best), -1)
    rest = arrays.arange(chunks * CHUNK, length)
    cells = arrays.join([cells, 0 * cells[:, :1] + rest])  # (lines, k·CHUNK + rest)
    scores = arrays.take(lines, cells)
    kept = arrays.largest(scores, k)
    return arrays.take(scores, kept), arrays.take(cells, kept)
