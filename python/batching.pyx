# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""ems_fast._batching: the loops between the memory-mapped corpus and a batch, without the GIL."""

from libc.stdint cimport int32_t, int64_t, uint16_t, uint32_t, uint64_t
from libcpp.vector cimport vector


cdef inline uint64_t mix(uint64_t x) noexcept nogil:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014): every bit of x reaches every bit out."""
    x = (x ^ (x >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * <uint64_t>0x94D049BB133111EB
    return x ^ (x >> 31)


cdef uint64_t permuted(uint64_t index, uint64_t n, uint64_t key) noexcept nogil:
    """The place of `index` in a keyed permutation of 0 … n − 1, without an array of n.

    A four-round Feistel network permutes the smallest even-bit domain that holds n; results
    outside of 0 … n − 1 are sent through again (cycle walking), fewer than four times on average.
    """
    cdef int half = 1, round_
    while (<uint64_t>1 << (2 * half)) < n:
        half += 1
    cdef uint64_t mask = (<uint64_t>1 << half) - 1
    cdef uint64_t left, right, swap
    while True:
        left = index >> half
        right = index & mask
        for round_ in range(4):
            swap = right
            right = left ^ (mix(key + <uint64_t>round_ * <uint64_t>0x9E3779B97F4A7C15 + right) & mask)
            left = swap
        index = (left << half) | right
        if index < n:
            return index


def permuted_rows(int64_t start, int64_t n, int64_t seed, int64_t[::1] out):
    """Rows start, start + 1, … of an endless walk through 0 … n − 1: a new order every n rows."""
    cdef Py_ssize_t i
    cdef int64_t position
    with nogil:
        for i in range(out.shape[0]):
            position = start + i
            out[i] = <int64_t>permuted(<uint64_t>(position % n), <uint64_t>n,
                                       mix(<uint64_t>seed + mix(<uint64_t>(position // n))))


cdef struct ShardView:
    const uint16_t* narrow   # the tokens, in one of two widths; the other is NULL
    const uint32_t* wide
    const int64_t* offsets
    const int64_t* hashes
    int64_t tokens, sentences


cdef class PairReader:
    """Reads pairs of several memory-mapped shards, whose files may be damaged.

    Args:
        shards: (tokens uint16 or uint32, offsets int64 [2n + 1], hashes int64 [2n]) of each.
        vocab_size: V, above every token.
    """

    cdef list _owners
    cdef vector[ShardView] _shards
    cdef int64_t _vocab_size

    def __init__(self, shards, int64_t vocab_size):
        cdef ShardView view
        cdef const uint16_t[::1] narrow
        cdef const uint32_t[::1] wide
        cdef const int64_t[::1] offsets, hashes
        self._owners = list(shards)
        self._vocab_size = vocab_size
        for tokens, shard_offsets, shard_hashes in self._owners:
            view.narrow = NULL
            view.wide = NULL
            if tokens.dtype == "uint16":
                narrow = tokens
                view.narrow = &narrow[0]
            else:
                wide = tokens
                view.wide = &wide[0]
            offsets = shard_offsets
            hashes = shard_hashes
            view.offsets = &offsets[0]
            view.hashes = &hashes[0]
            view.tokens = len(tokens)
            view.sentences = min(<Py_ssize_t>offsets.shape[0] - 1, <Py_ssize_t>hashes.shape[0])
            self._shards.push_back(view)

    cdef bint _has(self, int64_t shard, int64_t row) noexcept nogil:
        """Whether there is such a pair, and its tokens are where they can be."""
        cdef const int64_t* at
        if not 0 <= shard < <int64_t>self._shards.size():
            return False
        if not 0 <= row < self._shards[shard].sentences // 2:
            return False
        at = self._shards[shard].offsets + 2 * row
        return 0 <= at[0] <= at[1] <= at[2] <= self._shards[shard].tokens

    cdef _damaged(self, int64_t shard, int64_t row):
        from ems_fast.errors import InputError

        return InputError(
            f"corpus: pair {row} of shard {shard} has offsets or tokens that cannot be; its files "
            "are damaged, prepare it again"
        )

    def lengths(self, const int32_t[::1] shard, const int64_t[::1] row, int64_t[:, ::1] out):
        """Tokens of the source and the target of B pairs, into out [2, B]."""
        cdef Py_ssize_t i, bad = -1
        cdef int64_t s
        cdef const int64_t* offsets
        with nogil:
            for i in range(row.shape[0]):
                if not self._has(shard[i], row[i]):
                    bad = i
                    break
                offsets = self._shards[shard[i]].offsets
                s = 2 * row[i]
                out[0, i] = offsets[s + 1] - offsets[s]
                out[1, i] = offsets[s + 2] - offsets[s + 1]
        if bad >= 0:
            raise self._damaged(shard[bad], row[bad])

    def hashes(self, const int32_t[::1] shard, const int64_t[::1] row, int64_t[:, ::1] out):
        """Hashes of the source and the target of B pairs, into out [2, B]."""
        cdef Py_ssize_t i, bad = -1
        cdef const int64_t* hashes
        with nogil:
            for i in range(row.shape[0]):
                if not self._has(shard[i], row[i]):
                    bad = i
                    break
                hashes = self._shards[shard[i]].hashes + 2 * row[i]
                out[0, i] = hashes[0]
                out[1, i] = hashes[1]
        if bad >= 0:
            raise self._damaged(shard[bad], row[bad])

    def tokens(self, const int32_t[::1] shard, const int64_t[::1] row, const int64_t[::1] side,
               int64_t[::1] out):
        """Tokens of B sentences one after another: side 0 is a pair's source, 1 its target.

        The caller has sized `out` from `lengths`.
        """
        cdef Py_ssize_t i, n = 0, bad = -1
        cdef int64_t s, begin, t, length, token
        cdef int64_t highest
        cdef ShardView view
        with nogil:
            for i in range(row.shape[0]):
                if not (self._has(shard[i], row[i]) and 0 <= side[i] <= 1):
                    bad = i
                    break
                view = self._shards[shard[i]]
                s = 2 * row[i] + side[i]
                begin = view.offsets[s]
                length = view.offsets[s + 1] - begin
                if length > out.shape[0] - n:
                    bad = i
                    break
                highest = -1
                if view.narrow != NULL:
                    for t in range(length):
                        token = view.narrow[begin + t]
                        out[n + t] = token
                        highest = max(highest, token)
                else:
                    for t in range(length):
                        token = view.wide[begin + t]
                        out[n + t] = token
                        highest = max(highest, token)
                if highest >= self._vocab_size:
                    bad = i
                    break
                n += length
        if bad >= 0:
            raise self._damaged(shard[bad], row[bad])
