// The cheapest alignment of two documents inside of a band: dynamic programming over blocks of
// lines (Thompson and Koehn 2019), in time and memory proportional to the cells of the band.
#pragma once

#include <cstdint>

#include "isa.h"

namespace ems {

constexpr std::int64_t align_most_lines = 15;  // of a side of a block: two of them fit into a byte

// What is nearer than rounding can tell counts as this far, in 1 - cosine: of many ways to align
// equal lines, one by one is then the cheapest.
constexpr float align_least_distance = 1e-5f;

// One document of L lines, as blocks of 1 .. S lines.
struct AlignSide {
  const float* vectors;    // [S, L, D], of length 1: row (s, i) is of lines i .. i + s
  const float* distances;  // [S, L]: mean of 1 - cosine to the other document; positive
  const float* lengths;    // [S, L]: how long each is, in units of cost
  std::int64_t lines;      // L
};

// Cell (i, j): i lines of the source and j of the target are aligned. Row i of the band, for i in
// 0 .. L, holds the columns begins[i] .. begins[i] + offsets[i + 1] - offsets[i]. Neither end of
// rows ever falls, consecutive rows overlap, the first begins at 0 and the last ends after the last
// column.
struct AlignBand {
  const std::int64_t* begins;
  const std::int64_t* offsets;
};

// A block of n and m lines costs n m ((1 - cosine) / mean of its two distances + difference of its
// two lengths), a line that is left alone costs `skip`. Writes the corners of the cheapest path, the last one first, to source_ends
// and target_ends, which have room for one more than both documents have lines, and its cost to
// `total`. Returns the number of corners. Of equal costs, the block with the smaller n, then m,
// wins, and a block wins over a line left alone.
std::int64_t align_path(std::int64_t* source_ends, std::int64_t* target_ends, double* total,
                        const AlignSide& source, const AlignSide& target, const AlignBand& band,
                        std::int64_t S, std::int64_t D, double skip, int threads);

struct AlignKernels {
  // out[k] = x · y[k] for y [count, D].
  void (*dots)(float* out, const float* x, const float* y, std::int64_t count, std::int64_t D);
};
EMS_SELECT_TABLE(AlignKernels, align_kernels)

}  // namespace ems
