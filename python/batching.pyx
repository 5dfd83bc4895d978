# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""ems_fast._batching: the loops between the memory-mapped corpus and a batch, without the GIL."""

from libc.stdint cimport int64_t, uint16_t, uint32_t

ctypedef fused token_t:
    uint16_t
    uint32_t


def gather_sentences(const token_t[::1] tokens, const int64_t[::1] offsets,
                     const int64_t[::1] sentences, int64_t[::1] out_ids,
                     int64_t[::1] out_offsets):
    """Copy the tokens of `sentences` [B] one after another into out_ids [N].

    out_offsets [B + 1] is filled; the caller has sized out_ids from the lengths.
    """
    cdef Py_ssize_t i, t, n = 0, begin, length
    with nogil:
        out_offsets[0] = 0
        for i in range(sentences.shape[0]):
            begin = offsets[sentences[i]]
            length = offsets[sentences[i] + 1] - begin
            for t in range(length):
                out_ids[n + t] = tokens[begin + t]
            n += length
            out_offsets[i + 1] = n
