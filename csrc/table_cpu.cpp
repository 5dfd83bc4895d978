#include "table.h"

#include <cmath>

namespace ems {
namespace {

bool adagrad(float* table, float* sums, const std::int64_t* rows, const float* gradient,
             std::int64_t count, std::int64_t D, std::int64_t V, AdagradStep step, int threads) {
  std::int64_t outside = 0;
  for (std::int64_t i = 0; i < count; ++i) outside += rows[i] < 0 || rows[i] >= V;
  if (outside) return false;
  const float kept = 1.0f - step.lr * step.weight_decay;
#pragma omp parallel for schedule(static) num_threads(threads)
  for (std::int64_t i = 0; i < count; ++i) {
    const float* g = gradient + i * D;
    float* w = table + rows[i] * D;
    float square = 0;
#pragma omp simd reduction(+ : square)
    for (std::int64_t d = 0; d < D; ++d) square += g[d] * g[d];
    const float sum = sums[rows[i]] += square / static_cast<float>(D);
    const float rate = step.lr / (std::sqrt(sum) + step.eps);
#pragma omp simd
    for (std::int64_t d = 0; d < D; ++d) w[d] = w[d] * kept - g[d] * rate;
  }
  return true;
}

}  // namespace

namespace EMS_ISA {
const TableKernels table_kernels = {adagrad};
}

}  // namespace ems
