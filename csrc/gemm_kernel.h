// A float32 matrix product that other kernels can finish as they like: the loops, the packing and
// the register tile. Only for files compiled once per instruction set (*_cpu.cpp).
//
// C [M, N] = A B is worked through in register tiles of MR x NR. Both operands are copied first
// into panels in the order in which a tile reads them (Goto and van de Geijn, "Anatomy of
// high-performance matrix multiplication", 2008): A in panels [depth][MR], B in panels
// [depth][NR], zero beyond the matrix. Every element of C is summed in the order of its depth,
// whatever the number of threads.
#pragma once

#include <cstdint>

#include "vector_math.h"

namespace ems {
namespace {

#if defined(__AVX512F__)
constexpr std::int64_t LANES = 16, MR = 12, VECTORS = 2;
#elif defined(__AVX2__)
constexpr std::int64_t LANES = 8, MR = 4, VECTORS = 3;
#else
constexpr std::int64_t LANES = 4, MR = 4, VECTORS = 2;
#endif
constexpr std::int64_t NR = LANES * VECTORS;
// A panel of A and one of B of this depth stay in the first-level cache.
constexpr std::int64_t DEPTH = 256;
// Panels of A that share one sweep over B; together they stay in the second-level cache.
constexpr std::int64_t PANELS = 8;

typedef float Vector __attribute__((vector_size(LANES * 4), aligned(4)));
typedef float Four __attribute__((vector_size(16), aligned(4)));

EMS_INLINE std::int64_t round_up(std::int64_t n, std::int64_t unit) {
  return (n + unit - 1) / unit * unit;
}
EMS_INLINE std::int64_t least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

// tile [MR, NR] = a b, or += if `add`; a is a panel [depth][MR], b a panel [depth][NR].
EMS_INLINE void multiply_tile(float* tile, std::int64_t stride, const float* a, const float* b,
                              std::int64_t depth, bool add) {
  Vector sum[MR][VECTORS];
#pragma GCC unroll 16
  for (std::int64_t i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (std::int64_t j = 0; j < VECTORS; ++j) sum[i][j] = Vector{};
  for (std::int64_t k = 0; k < depth; ++k) {
    Vector column[VECTORS];
#pragma GCC unroll 4
    for (std::int64_t j = 0; j < VECTORS; ++j)
      column[j] = *reinterpret_cast<const Vector*>(b + k * NR + j * LANES);
#pragma GCC unroll 16
    for (std::int64_t i = 0; i < MR; ++i)
#pragma GCC unroll 4
      for (std::int64_t j = 0; j < VECTORS; ++j) sum[i][j] += a[k * MR + i] * column[j];
  }
#pragma GCC unroll 16
  for (std::int64_t i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (std::int64_t j = 0; j < VECTORS; ++j) {
      Vector* out = reinterpret_cast<Vector*>(tile + i * stride + j * LANES);
      *out = add ? *out + sum[i][j] : sum[i][j];
    }
}

// Four rows of four become four columns of four.
EMS_INLINE void transpose_four(float* to, std::int64_t to_stride, const float* from,
                               std::int64_t stride) {
  typedef int Index __attribute__((vector_size(16)));
  const Four r0 = *reinterpret_cast<const Four*>(from);
  const Four r1 = *reinterpret_cast<const Four*>(from + stride);
  const Four r2 = *reinterpret_cast<const Four*>(from + 2 * stride);
  const Four r3 = *reinterpret_cast<const Four*>(from + 3 * stride);
  const Four a = __builtin_shuffle(r0, r1, Index{0, 4, 1, 5});
  const Four b = __builtin_shuffle(r2, r3, Index{0, 4, 1, 5});
  const Four c = __builtin_shuffle(r0, r1, Index{2, 6, 3, 7});
  const Four d = __builtin_shuffle(r2, r3, Index{2, 6, 3, 7});
  *reinterpret_cast<Four*>(to) = __builtin_shuffle(a, b, Index{0, 1, 4, 5});
  *reinterpret_cast<Four*>(to + to_stride) = __builtin_shuffle(a, b, Index{2, 3, 6, 7});
  *reinterpret_cast<Four*>(to + 2 * to_stride) = __builtin_shuffle(c, d, Index{0, 1, 4, 5});
  *reinterpret_cast<Four*>(to + 3 * to_stride) = __builtin_shuffle(c, d, Index{2, 3, 6, 7});
}

// Panels [depth][width] of neighbouring columns of a row-major [depth, ...]. Row by row:
// one row often lies on another page than the next.
template <std::int64_t width>
EMS_INLINE void pack_columns(float* panels, const float* from, std::int64_t stride,
                             std::int64_t columns, std::int64_t depth) {
  const std::int64_t whole = columns / width * width;
  for (std::int64_t k = 0; k < depth; ++k) {
    const float* row = from + k * stride;
    for (std::int64_t j = 0; j < whole; j += width)
      for (std::int64_t l = 0; l < width; ++l) panels[j * depth + k * width + l] = row[j + l];
    if (whole < columns)
      for (std::int64_t l = 0; l < width; ++l)
        panels[whole * depth + k * width + l] = whole + l < columns ? row[whole + l] : 0.0f;
  }
}

// A panel [depth][width] of `rows` <= width rows of a row-major [..., depth].
template <std::int64_t width>
EMS_INLINE void pack_rows(float* panel, const float* from, std::int64_t stride, std::int64_t rows,
                          std::int64_t depth) {
  static_assert(width % 4 == 0);
  if (rows == width) {
    std::int64_t k = 0;
    for (; k + 4 <= depth; k += 4)
      for (std::int64_t i = 0; i < width; i += 4)
        transpose_four(panel + k * width + i, width, from + i * stride + k, stride);
    for (; k < depth; ++k)
      for (std::int64_t i = 0; i < width; ++i) panel[k * width + i] = from[i * stride + k];
    return;
  }
  for (std::int64_t k = 0; k < depth; ++k)
    for (std::int64_t i = 0; i < width; ++i)
      panel[k * width + i] = i < rows ? from[i * stride + k] : 0.0f;
}

// An operand that stays while many others pass by is packed whole, once: blocks of DEPTH, each a
// row of panels. `transposed`: from is [N, K], else [K, N].
EMS_INLINE std::int64_t packed_size(std::int64_t K, std::int64_t N) { return K * round_up(N, NR); }

EMS_INLINE void pack_panel(float* packed, const float* from, std::int64_t stride, bool transposed,
                           std::int64_t K, std::int64_t N, std::int64_t panel) {
  const std::int64_t n = panel * NR, columns = least(NR, N - n), width = round_up(N, NR);
  for (std::int64_t k = 0; k < K; k += DEPTH) {
    const std::int64_t depth = least(DEPTH, K - k);
    float* to = packed + k * width + n * depth;
    if (transposed)
      pack_rows<NR>(to, from + n * stride + k, stride, columns, depth);
    else
      pack_columns<NR>(to, from + k * stride + n, stride, columns, depth);
  }
}

// A register tile that hangs over the edge of C goes through here.
struct EdgeTile {
  alignas(64) float at[MR * NR];
};

EMS_INLINE void add_tile(float* c, std::int64_t stride, std::int64_t rows, std::int64_t columns,
                         const float* a, const float* b, std::int64_t depth, bool add) {
  if (rows == MR && columns == NR) {
    multiply_tile(c, stride, a, b, depth, add);
    return;
  }
  EdgeTile edge;
  multiply_tile(edge.at, NR, a, b, depth, false);
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < columns; ++j)
      c[i * stride + j] = (add ? c[i * stride + j] : 0.0f) + edge.at[i * NR + j];
}

// Rows m .. m + rows of C [M, N] = A [M, K] packed, or +=, for one thread; rows <= PANELS * MR and
// `panels` holds PANELS * MR * DEPTH floats. After the last depth of a tile, `finish(row, rows,
// column, columns)` sees it while it is in the first-level cache.
template <typename Finish>
EMS_INLINE void multiply_rows(float* c, std::int64_t c_stride, const float* a,
                              std::int64_t a_stride, const float* packed, float* panels,
                              std::int64_t m, std::int64_t rows, std::int64_t N, std::int64_t K,
                              bool add, Finish finish) {
  const std::int64_t width = round_up(N, NR);
  for (std::int64_t k = 0; k < K; k += DEPTH) {
    const std::int64_t depth = least(DEPTH, K - k);
    for (std::int64_t i = 0; i < rows; i += MR)
      pack_rows<MR>(panels + i * depth, a + (m + i) * a_stride + k, a_stride, least(MR, rows - i),
                    depth);
    for (std::int64_t n = 0; n < N; n += NR) {
      const float* b = packed + k * width + n * depth;
      for (std::int64_t i = 0; i < rows; i += MR) {
        add_tile(c + (m + i) * c_stride + n, c_stride, least(MR, rows - i), least(NR, N - n),
                 panels + i * depth, b, depth, add || k > 0);
        if (k + depth == K) finish(m + i, least(MR, rows - i), n, least(NR, N - n));
      }
    }
  }
}

}  // namespace
}  // namespace ems
