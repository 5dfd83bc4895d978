#include "gemm.h"

#include <cstdlib>

#include "gemm_kernel.h"

namespace ems {
namespace {

std::int64_t size_of_packed(std::int64_t K, std::int64_t N) { return packed_size(K, N); }

void pack(float* packed, const float* from, std::int64_t stride, bool transposed, std::int64_t K,
          std::int64_t N, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (std::int64_t panel = 0; panel < (N + NR - 1) / NR; ++panel)
    pack_panel(packed, from, stride, transposed, K, N, panel);
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
      : M(M), panels((M + MR - 1) / MR),
        count(least(panels, round_up((panels + PANELS - 1) / PANELS, threads))) {}
  std::int64_t begin(std::int64_t block) const { return least(M, block * panels / count * MR); }
};

void multiply(float* c, std::int64_t c_stride, const float* a, std::int64_t a_stride,
              const float* packed, std::int64_t M, std::int64_t N, std::int64_t K, bool add,
              int threads) {
  if (K == 0 && !add) set_zero(c, c_stride, M, N);
  const Blocks blocks(M, threads);
#pragma omp parallel num_threads(threads)
  {
    alignas(64) float panels[PANELS * MR * DEPTH];
#pragma omp for schedule(dynamic)
    for (std::int64_t block = 0; block < blocks.count; ++block) {
      const std::int64_t m = blocks.begin(block), rows = blocks.begin(block + 1) - m;
      multiply_rows(c, c_stride, a, a_stride, packed, panels, m, rows, N, K, add,
                    [](std::int64_t, std::int64_t, std::int64_t, std::int64_t) {});
    }
  }
}

void multiply_transposed(float* c, std::int64_t c_stride, const float* a, std::int64_t a_stride,
                         const float* b, std::int64_t b_stride, std::int64_t M, std::int64_t N,
                         std::int64_t K, bool add, int threads) {
  if (K == 0 && !add) set_zero(c, c_stride, M, N);
  const Blocks blocks(M, threads);
  // Both operands have their depth in rows: what is packed is small, and packed once per DEPTH.
  float* packed = static_cast<float*>(
      std::aligned_alloc(64, round_up(sizeof(float) * DEPTH * round_up(N, NR), 64)));
#pragma omp parallel num_threads(threads)
  {
    alignas(64) float panels[PANELS * MR * DEPTH];
    for (std::int64_t k = 0; k < K; k += DEPTH) {
      const std::int64_t depth = least(DEPTH, K - k);
#pragma omp for schedule(static)
      for (std::int64_t panel = 0; panel < (N + NR - 1) / NR; ++panel)
        pack_panel(packed, b + k * b_stride, b_stride, false, depth, N, panel);
#pragma omp for schedule(dynamic)
      for (std::int64_t block = 0; block < blocks.count; ++block) {
        const std::int64_t m = blocks.begin(block), rows = blocks.begin(block + 1) - m;
        pack_columns<MR>(panels, a + k * a_stride + m, a_stride, rows, depth);
        for (std::int64_t n = 0; n < N; n += NR)
          for (std::int64_t i = 0; i < rows; i += MR)
            add_tile(c + (m + i) * c_stride + n, c_stride, least(MR, rows - i), least(NR, N - n),
                     panels + i * depth, packed + n * depth, depth, add || k > 0);
      }
    }
  }
  std::free(packed);
}

}  // namespace

namespace EMS_ISA {
const GemmTable gemm_table = {LANES >= 8, size_of_packed, pack, multiply, multiply_transposed};
}

}  // namespace ems
