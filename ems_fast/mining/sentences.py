"""`ems_fast.search`: the sentences that are nearest to others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ems_fast.encoding.precision import Precision
from ems_fast.encoding.protocol import Encodes, check_sentences, encode_sentences
from ems_fast.errors import check_one_of
from ems_fast.mining.exact import (
    INDEXES,
    MEMORY_BYTES,
    Index,
    Neighbors,
    check_k,
    nearest,
    rank,
    unit_rows,
)
from ems_fast.mining.faiss import BINARY_CANDIDATES

if TYPE_CHECKING:
    import torch


def search(
    encoder: Encodes,
    sentences: Sequence[str],
    queries: Sequence[str],
    *,
    k: int = 5,
    precision: Precision = "float32",
    dim: int | None = None,
    index: Index = "exact",
    memory_bytes: int = MEMORY_BYTES,
    device: torch.device | str = "cpu",
) -> Neighbors:
    """Find the k sentences that are nearest to each query, by cosine.

    Args:
        encoder: encodes both.
        sentences: what is searched.
        queries: what is looked for.
        k: sentences to find for each query.
        precision: how the vectors of the sentences are held: ``"int8"`` in a quarter of the memory,
            ``"ubinary"`` in a thirty-second. Of bits, the 32 · k nearest sentences are encoded
            again, and ranked by their exact cosines.
        dim: dimensions to compare, the first ones; None compares all.
        index: ``"exact"`` compares with all sentences; ``"faiss"`` (an extra) finds most of them
            faster, beyond a million; ``"binary"`` (of the same extra) compares signs first.
        memory_bytes: working memory, as in `ems_fast.mining.exact.nearest`.
        device: where the products are computed.

    Raises:
        InputError: not strings, none, fewer sentences than `k`, an unknown precision or index, or
            no such `dim`.
        BackendError: faiss is asked for and not installed.
    """
    check_one_of("index", index, INDEXES)
    for name, given in (("sentences", sentences), ("queries", queries)):
        check_sentences(name, given)
    check_k(k, "sentences", len(sentences))
    asked = encode_sentences(encoder, "queries", queries, dim=dim)
    items = encode_sentences(encoder, "sentences", sentences, precision=precision, dim=dim)
    bits = precision == "ubinary"
    found = nearest(
        asked,
        items,
        min(len(sentences), BINARY_CANDIDATES * k) if bits else k,
        memory_bytes=memory_bytes,
        device=device,
        names=("queries", "sentences"),
        index=index,
    )
    if not bits:
        return found
    rows, place = np.unique(found.indices, return_inverse=True)
    again = encode_sentences(encoder, "sentences", [sentences[i] for i in rows], dim=dim)
    best = rank(
        unit_rows("queries", asked, 0, len(asked)),
        again,
        place.reshape(found.indices.shape),
        k,
        "sentences",
    )
    return Neighbors(rows[best.indices], best.scores)
