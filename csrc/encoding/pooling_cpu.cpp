#include "encoding/pooling.h"

#include <cmath>

#include "vector_math.h"

namespace ems {
namespace {

EMS_INLINE float widen(std::int8_t x) { return static_cast<float>(x); }

// Rows lie anywhere in a table larger than the caches: the next ones are fetched while one is added.
constexpr std::int64_t ahead = 4;

template <typename Row>
EMS_INLINE void fetch(const Row* row, std::int64_t dim) {
  const char* bytes = reinterpret_cast<const char*>(row);
  const std::int64_t size = dim * static_cast<std::int64_t>(sizeof(Row));
  for (std::int64_t b = 0; b < size; b += 64) __builtin_prefetch(bytes + b);
}

template <typename Row>
void means(float* out, const TokenTable& table, const Sentences& sentences, std::int64_t dim,
           bool normalize, std::int64_t first, std::int64_t last) {
  const Row* rows = static_cast<const Row*>(table.rows);
  for (std::int64_t i = first; i < last; ++i) {
    const std::int64_t* ids = sentences.ids + sentences.starts[i];
    const std::int64_t length = sentences.lengths[i];
    float* sum = out + i * dim;
    for (std::int64_t d = 0; d < dim; ++d) sum[d] = 0;
    for (std::int64_t t = 0; t < length; ++t) {
      if (t + ahead < length) fetch(rows + ids[t + ahead] * table.D, dim);
      const Row* row = rows + ids[t] * table.D;
      const float scale = sizeof(Row) == 1 ? table.scales[ids[t]] : 1.0f;
#pragma omp simd
      for (std::int64_t d = 0; d < dim; ++d) sum[d] += scale * widen(row[d]);
    }
    float scale = length ? 1.0f / static_cast<float>(length) : 0.0f;
    if (normalize) {
      float square = 0;
#pragma omp simd reduction(+ : square)
      for (std::int64_t d = 0; d < dim; ++d) square += sum[d] * sum[d];
      scale /= std::fmax(std::sqrt(square) * scale, 1e-12f);
    }
#pragma omp simd
    for (std::int64_t d = 0; d < dim; ++d) sum[d] *= scale;
  }
}

}  // namespace

namespace EMS_ISA {
const PoolingKernels pooling_kernels = {{means<float>, means<bfloat16>, means<std::int8_t>}};
}

}  // namespace ems
