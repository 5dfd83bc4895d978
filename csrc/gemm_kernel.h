// A float32 matrix product that other kernels can finish as they like: the loops, the packing and
// the register tile. Only for files compiled once per instruction set (*_cpu.cpp).
//
// C [M, N] = A B is worked through in register tiles of MR x NR. Both operands are copied first
// into panels in the order in which a tile reads them (Goto and van de Geijn, "Anatomy of
// high-performance matrix multiplication", 2008): A in panels [depth][MR], B in panels
// [depth][NR], zero beyond the matrix. Every element of C is summed in the order of its depth,
// whatever the number of threads.
//
// A panel's words are floats, or pairs of neighbours in depth that packing has rounded to bfloat16;
// A, B and C are float32 either way. Depths count words.
#pragma once

#include <cstdint>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

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

EMS_INLINE std::int64_t round_up(std::int64_t n, std::int64_t unit) {
  return (n + unit - 1) / unit * unit;
}
EMS_INLINE std::int64_t least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

// Two bfloat16, the first in the lower half.
enum class Pair : std::uint32_t {};

// Elements of depth in a word.
template <typename Word>
constexpr std::int64_t per_word = 1;
template <>
constexpr std::int64_t per_word<Pair> = 2;

template <typename Word>
EMS_INLINE std::int64_t words_of(std::int64_t elements) {
  return (elements + per_word<Word> - 1) / per_word<Word>;
}

EMS_INLINE Pair pair_of(float first, float second) {
  bfloat16 low, high;
  narrow(low, first);
  narrow(high, second);
  return static_cast<Pair>(static_cast<std::uint32_t>(low) | static_cast<std::uint32_t>(high)
                                                                 << 16);
}

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

#if defined(__AVX512F__)
// The same for pairs; only for processors with these instructions, which is why it is no inline.
[[gnu::target("avx512bf16"), gnu::noinline]] void multiply_tile(float* tile, std::int64_t stride,
                                                                const Pair* a, const Pair* b,
                                                                std::int64_t depth, bool add) {
  __m512 sum[MR][VECTORS];
#pragma GCC unroll 16
  for (std::int64_t i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (std::int64_t j = 0; j < VECTORS; ++j) sum[i][j] = _mm512_setzero_ps();
  for (std::int64_t k = 0; k < depth; ++k) {
    __m512bh column[VECTORS];
#pragma GCC unroll 4
    for (std::int64_t j = 0; j < VECTORS; ++j)
      column[j] = (__m512bh)_mm512_loadu_si512(b + k * NR + j * LANES);
#pragma GCC unroll 16
    for (std::int64_t i = 0; i < MR; ++i) {
      const __m512bh row = (__m512bh)_mm512_set1_epi32(static_cast<int>(a[k * MR + i]));
#pragma GCC unroll 4
      for (std::int64_t j = 0; j < VECTORS; ++j)
        sum[i][j] = _mm512_dpbf16_ps(sum[i][j], row, column[j]);
    }
  }
#pragma GCC unroll 16
  for (std::int64_t i = 0; i < MR; ++i)
#pragma GCC unroll 4
    for (std::int64_t j = 0; j < VECTORS; ++j) {
      float* out = tile + i * stride + j * LANES;
      const __m512 old = add ? _mm512_loadu_ps(out) : _mm512_setzero_ps();
      _mm512_storeu_ps(out, _mm512_add_ps(old, sum[i][j]));
    }
}
#endif

// The words of two vectors of four at these places, counted through both.
#if defined(__clang__)
#define EMS_SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int Places __attribute__((vector_size(16)));
#define EMS_SHUFFLE(a, b, ...) __builtin_shuffle(a, b, Places{__VA_ARGS__})
#endif

// Four rows of four words become four columns of four.
template <typename Word>
EMS_INLINE void transpose_four(Word* to, std::int64_t to_stride, const Word* from,
                               std::int64_t stride) {
  typedef float Four __attribute__((vector_size(16), aligned(4), may_alias));
  const Four r0 = *reinterpret_cast<const Four*>(from);
  const Four r1 = *reinterpret_cast<const Four*>(from + stride);
  const Four r2 = *reinterpret_cast<const Four*>(from + 2 * stride);
  const Four r3 = *reinterpret_cast<const Four*>(from + 3 * stride);
  const Four a = EMS_SHUFFLE(r0, r1, 0, 4, 1, 5);
  const Four b = EMS_SHUFFLE(r2, r3, 0, 4, 1, 5);
  const Four c = EMS_SHUFFLE(r0, r1, 2, 6, 3, 7);
  const Four d = EMS_SHUFFLE(r2, r3, 2, 6, 3, 7);
  *reinterpret_cast<Four*>(to) = EMS_SHUFFLE(a, b, 0, 1, 4, 5);
  *reinterpret_cast<Four*>(to + to_stride) = EMS_SHUFFLE(a, b, 2, 3, 6, 7);
  *reinterpret_cast<Four*>(to + 2 * to_stride) = EMS_SHUFFLE(c, d, 0, 1, 4, 5);
  *reinterpret_cast<Four*>(to + 3 * to_stride) = EMS_SHUFFLE(c, d, 2, 3, 6, 7);
}

// Columns that `pack_columns` takes at most: with DEPTH rows of words, a quarter of a second-level
// cache.
constexpr std::int64_t COLUMNS = 256 / NR * NR;

// Row k of words of a row-major [depth, columns]: those of floats where they are, those of pairs in
// `line`.
EMS_INLINE const float* row_of_words(float*, const float* from, std::int64_t stride, std::int64_t,
                                     std::int64_t, std::int64_t k) {
  return from + k * stride;
}
EMS_INLINE const Pair* row_of_words(Pair* line, const float* from, std::int64_t stride,
                                    std::int64_t columns, std::int64_t depth, std::int64_t k) {
  const float* row = from + 2 * k * stride;
  const float* next = row + stride;
  if (2 * k + 1 < depth) {
#pragma omp simd
    for (std::int64_t l = 0; l < columns; ++l) line[l] = pair_of(row[l], next[l]);
  } else {
    for (std::int64_t l = 0; l < columns; ++l) line[l] = pair_of(row[l], 0.0f);
  }
  return line;
}

// Panels [words][width] of at most COLUMNS neighbouring columns of a row-major [depth, ...]. Row by
// row: one row often lies on another page than the next.
template <std::int64_t width, typename Word>
EMS_INLINE void pack_columns(Word* panels, const float* from, std::int64_t stride,
                             std::int64_t columns, std::int64_t depth) {
  const std::int64_t whole = columns / width * width, words = words_of<Word>(depth);
  alignas(64) Word line[per_word<Word> == 1 ? 1 : COLUMNS];
  for (std::int64_t k = 0; k < words; ++k) {
    const Word* row = row_of_words(line, from, stride, columns, depth, k);
    for (std::int64_t j = 0; j < whole; j += width)
      for (std::int64_t l = 0; l < width; ++l) panels[j * words + k * width + l] = row[j + l];
    if (whole < columns)
      for (std::int64_t l = 0; l < width; ++l)
        panels[whole * words + k * width + l] = whole + l < columns ? row[whole + l] : Word{};
  }
}

// `count` rows of words of a row-major [..., depth], `stride` apart: those of floats where they are,
// those of pairs in `buffer` [count, DEPTH].
EMS_INLINE const float* rows_of_words(float*, const float* from, std::int64_t&, std::int64_t,
                                      std::int64_t) {
  return from;
}
EMS_INLINE const Pair* rows_of_words(Pair* buffer, const float* from, std::int64_t& stride,
                                     std::int64_t count, std::int64_t depth) {
  for (std::int64_t i = 0; i < count; ++i) {
    const float* row = from + i * stride;
#pragma omp simd
    for (std::int64_t k = 0; k < depth / 2; ++k)
      buffer[i * DEPTH + k] = pair_of(row[2 * k], row[2 * k + 1]);
    if (depth % 2) buffer[i * DEPTH + depth / 2] = pair_of(row[depth - 1], 0.0f);
  }
  stride = DEPTH;
  return buffer;
}

// A panel [words][width] of `rows` <= width rows of a row-major [..., depth].
template <std::int64_t width, typename Word>
EMS_INLINE void pack_rows(Word* panel, const float* from, std::int64_t stride, std::int64_t rows,
                          std::int64_t depth) {
  static_assert(width % 4 == 0);
  const std::int64_t words = words_of<Word>(depth);
  alignas(64) Word buffer[per_word<Word> == 1 ? 1 : 4 * DEPTH];
  for (std::int64_t i = 0; i < width; i += 4) {
    const std::int64_t count = least(4, rows - i);
    std::int64_t step = stride, k = 0;
    const Word* four =
        count > 0 ? rows_of_words(buffer, from + i * stride, step, count, depth) : buffer;
    if (count == 4)
      for (; k + 4 <= words; k += 4) transpose_four(panel + k * width + i, width, four + k, step);
    for (; k < words; ++k)
      for (std::int64_t l = 0; l < 4; ++l)
        panel[k * width + i + l] = l < count ? four[l * step + k] : Word{};
  }
}

// An operand that stays while many others pass by is packed whole, once: blocks of DEPTH words,
// each a row of panels. `transposed`: from is [N, K], else [K, N].
template <typename Word>
EMS_INLINE std::int64_t packed_size(std::int64_t K, std::int64_t N) {
  return words_of<Word>(K) * round_up(N, NR);
}

// Elements of the depth that a block holds.
template <typename Word>
constexpr std::int64_t block_depth = DEPTH * per_word<Word>;

template <typename Word>
EMS_INLINE void pack_panel(Word* packed, const float* from, std::int64_t stride, bool transposed,
                           std::int64_t K, std::int64_t N, std::int64_t panel) {
  const std::int64_t n = panel * NR, columns = least(NR, N - n), width = round_up(N, NR);
  for (std::int64_t k = 0; k < K; k += block_depth<Word>) {
    const std::int64_t depth = least(block_depth<Word>, K - k);
    Word* to = packed + k / per_word<Word> * width + n * words_of<Word>(depth);
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

template <typename Word>
EMS_INLINE void add_tile(float* c, std::int64_t stride, std::int64_t rows, std::int64_t columns,
                         const Word* a, const Word* b, std::int64_t depth, bool add) {
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
// `panels` holds PANELS * MR * DEPTH words. After the last depth of a tile, `finish(row, rows,
// column, columns)` sees it while it is in the first-level cache.
template <typename Word, typename Finish>
EMS_INLINE void multiply_rows(float* c, std::int64_t c_stride, const float* a,
                              std::int64_t a_stride, const Word* packed, Word* panels,
                              std::int64_t m, std::int64_t rows, std::int64_t N, std::int64_t K,
                              bool add, Finish finish) {
  const std::int64_t width = round_up(N, NR);
  for (std::int64_t k = 0; k < K; k += block_depth<Word>) {
    const std::int64_t depth = least(block_depth<Word>, K - k), words = words_of<Word>(depth);
    for (std::int64_t i = 0; i < rows; i += MR)
      pack_rows<MR>(panels + i * words, a + (m + i) * a_stride + k, a_stride, least(MR, rows - i),
                    depth);
    for (std::int64_t n = 0; n < N; n += NR) {
      const Word* b = packed + k / per_word<Word> * width + n * words;
      for (std::int64_t i = 0; i < rows; i += MR) {
        add_tile(c + (m + i) * c_stride + n, c_stride, least(MR, rows - i), least(NR, N - n),
                 panels + i * words, b, words, add || k > 0);
        if (k + depth == K) finish(m + i, least(MR, rows - i), n, least(NR, N - n));
      }
    }
  }
}

}  // namespace
}  // namespace ems
