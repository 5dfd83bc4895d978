#include "gemm.h"

#include "gemm_kernel.h"

namespace ems {
namespace {

template <typename Word>
std::int64_t size_of_packed(std::int64_t K, std::int64_t N) {
  return packed_size<Word>(K, N);
}

template <typename Word>
void pack(void* packed, const float* from, std::int64_t stride, bool transposed, std::int64_t K,
          std::int64_t N, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (std::int64_t panel = 0; panel < (N + NR - 1) / NR; ++panel)
    pack_panel(static_cast<Word*>(packed), from, stride, transposed, K, N, panel);
}

// The product over no depth at all.
void set_zero(float* c, std::int64_t stride, std::int64_t M, std::int64_t N) {
  for (std::int64_t m = 0; m < M; ++m)
    for (std::int64_t n = 0; n < N; ++n) c[m * stride + n] = 0.0f;
}

// C's rows in blocks of at most PANELS panels, as many for each thread and about equal.
struct Blocks {
  std::int64_t M, panels, count;

  Blocks(std::int64_t M, int threads)
      : M(M),
        panels((M + MR - 1) / MR),
        count(least(panels, round_up((panels + PANELS - 1) / PANELS, threads))) {}
  std::int64_t begin(std::int64_t block) const { return least(M, block * panels / count * MR); }
};

template <typename Word>
void multiply(float* c, std::int64_t c_stride, const float* a, std::int64_t a_stride,
              const void* packed, std::int64_t M, std::int64_t N, std::int64_t K, bool add,
              int threads) {
  if (K == 0 && !add) set_zero(c, c_stride, M, N);
  const Blocks blocks(M, threads);
#pragma omp parallel num_threads(threads)
  {
    alignas(64) Word panels[PANELS * MR * DEPTH];
#pragma omp for schedule(dynamic)
    for (std::int64_t block = 0; block < blocks.count; ++block) {
      const std::int64_t m = blocks.begin(block), rows = blocks.begin(block + 1) - m;
      multiply_rows(c, c_stride, a, a_stride, static_cast<const Word*>(packed), panels, m, rows, N,
                    K, add, [](std::int64_t, std::int64_t, std::int64_t, std::int64_t) {});
    }
  }
}

// A thread's part of C in `multiply_transposed`: threads form a grid and share nothing, since both
// operands change with the depth and waiting for each other would cost more than packing twice.
struct Grid {
  std::int64_t down, across;  // threads over C's rows and over its columns

  // The grid in which a thread packs least: of the whole depth, (rows + columns) of its part.
  Grid(std::int64_t M, std::int64_t N, int threads) : down(threads), across(1) {
    std::int64_t cheapest = M / threads + N;
    for (std::int64_t n = 2; n <= threads; ++n)
      if (threads % n == 0 && M / (threads / n) + N / n < cheapest) {
        cheapest = M / (threads / n) + N / n;
        down = threads / n;
        across = n;
      }
  }
};

// Where part `i` of `parts` begins, in whole units.
std::int64_t part_begin(std::int64_t size, std::int64_t unit, std::int64_t i, std::int64_t parts) {
  return least(size, (size + unit - 1) / unit * i / parts * unit);
}

template <typename Word>
void multiply_transposed(float* c, std::int64_t c_stride, const float* a, std::int64_t a_stride,
                         const float* b, std::int64_t b_stride, std::int64_t M, std::int64_t N,
                         std::int64_t K, bool add, int threads) {
  if (K == 0 && !add) set_zero(c, c_stride, M, N);
  const Grid grid(M, N, threads);
#pragma omp parallel for num_threads(threads) schedule(static, 1)
  for (std::int64_t part = 0; part < grid.down * grid.across; ++part) {
    const std::int64_t row = part / grid.across, column = part % grid.across;
    const std::int64_t m0 = part_begin(M, MR, row, grid.down);
    const std::int64_t m1 = part_begin(M, MR, row + 1, grid.down);
    const std::int64_t n0 = part_begin(N, NR, column, grid.across);
    const std::int64_t n1 = part_begin(N, NR, column + 1, grid.across);
    alignas(64) Word rows_of_a[PANELS * MR * DEPTH];
    alignas(64) Word rows_of_b[COLUMNS * DEPTH];
    for (std::int64_t n = n0; n < n1; n += COLUMNS) {
      const std::int64_t columns = least(COLUMNS, n1 - n);
      for (std::int64_t k = 0; k < K; k += block_depth<Word>) {
        const std::int64_t depth = least(block_depth<Word>, K - k), words = words_of<Word>(depth);
        pack_columns<NR>(rows_of_b, b + k * b_stride + n, b_stride, columns, depth);
        for (std::int64_t m = m0; m < m1; m += PANELS * MR) {
          const std::int64_t rows = least(PANELS * MR, m1 - m);
          pack_columns<MR>(rows_of_a, a + k * a_stride + m, a_stride, rows, depth);
          for (std::int64_t j = 0; j < columns; j += NR)
            for (std::int64_t i = 0; i < rows; i += MR)
              add_tile(c + (m + i) * c_stride + n + j, c_stride, least(MR, rows - i),
                       least(NR, columns - j), rows_of_a + i * words, rows_of_b + j * words, words,
                       add || k > 0);
        }
      }
    }
  }
}

template <typename Word>
constexpr GemmProducts products_of = {size_of_packed<Word>, pack<Word>, multiply<Word>,
                                      multiply_transposed<Word>};

}  // namespace

namespace EMS_ISA {
#if defined(__AVX512F__)
const GemmTable gemm_table = {true, products_of<float>, products_of<Pair>};
#else
const GemmTable gemm_table = {LANES >= 8, products_of<float>, {}};
#endif
}  // namespace EMS_ISA

}  // namespace ems
