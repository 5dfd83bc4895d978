"""Pairs that are nearly the same as an earlier one: MinHash (Broder, 1997), by datasketch."""

from __future__ import annotations

import zlib
from typing import Any

from ems_fast.errors import BackendError

# Pairs of which this share of the n-grams is common to both are the same but for a detail.
JACCARD = 0.8
PERMUTATIONS = 64
NGRAM = 5
# Pairs that are remembered, the last ones kept: about 3 KB each.
WINDOW = 200_000


class NearDuplicates:
    """Finds pairs like one of the last `window` that were added; needs the extra ``filter``.

    Raises:
        BackendError: datasketch is not installed.
    """

    def __init__(self, window: int = WINDOW):
        try:
            import datasketch
        except ImportError as error:
            raise BackendError(
                "near_duplicates: finding them needs datasketch; pip install 'ems-fast[filter]'"
            ) from error
        self._new = datasketch.MinHash
        # Weights of wrong finds and of misses: what is found is compared, what is missed is not.
        self._index: Any = datasketch.MinHashLSH(
            threshold=JACCARD, num_perm=PERMUTATIONS, weights=(0.1, 0.9)
        )
        self._window = window
        self._kept: dict[int, Any] = {}
        self._count = 0

    def add(self, source: str, target: str) -> bool:
        """Remember a pair, both sides as their `text_key`; False if one like it is there."""
        text = f"{source}\t{target}"
        grams = {text[i : i + NGRAM] for i in range(max(1, len(text) - NGRAM + 1))}
        signature = self._new(num_perm=PERMUTATIONS, hashfunc=zlib.crc32)
        signature.update_batch([gram.encode("utf-8", "surrogatepass") for gram in grams])
        found = self._index.query(signature)
        if any(signature.jaccard(self._kept[key]) >= JACCARD for key in found):
            return False
        self._index.insert(self._count, signature, check_duplication=False)
        self._kept[self._count] = signature
        self._count += 1
        if len(self._kept) > self._window:
            oldest = next(iter(self._kept))
            self._index.remove(oldest)
            del self._kept[oldest]
        return True
