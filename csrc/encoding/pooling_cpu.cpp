#include "encoding/pooling.h"

#include <cmath>

#include "vector_math.h"

namespace ems {
namespace {

EMS_INLINE float widen(std::int8_t x) { return static_cast<float>(x); }

// Rows lie anywhere in a table larger than the caches: the next ones are fetched while one is added.
constexpr std::int64_t ahead = 4;

EMS_INLINE void fetch(const void* row, std::int64_t size) {
  const char* bytes = static_cast<const char*>(row);
  for (std::int64_t b = 0; b < size; b += 64) __builtin_prefetch(bytes + b);
}

// A number a column.
template <typename Number>
struct Plain {
  static constexpr bool scaled = sizeof(Number) == 1;

  EMS_INLINE const void* row(const TokenTable& table, std::int64_t id) {
    return static_cast<const Number*>(table.rows) + id * table.D;
  }

  EMS_INLINE std::int64_t bytes(const TokenTable&, std::int64_t dim) {
    return dim * static_cast<std::int64_t>(sizeof(Number));
  }

  EMS_INLINE void add(float* sum, const void* numbers, float scale, std::int64_t,
                      std::int64_t dim) {
    const Number* row = static_cast<const Number*>(numbers);
#pragma omp simd
    for (std::int64_t d = 0; d < dim; ++d) sum[d] += scale * widen(row[d]);
  }
};

// Two columns a byte.
struct Nibbles {
  static constexpr bool scaled = true;

  EMS_INLINE const void* row(const TokenTable& table, std::int64_t id) {
    return static_cast<const std::uint8_t*>(table.rows) + id * (table.D / 2);
  }

  EMS_INLINE std::int64_t bytes(const TokenTable& table, std::int64_t) { return table.D / 2; }

  EMS_INLINE void add(float* sum, const void* numbers, float scale, std::int64_t D,
                      std::int64_t dim) {
    const std::uint8_t* row = static_cast<const std::uint8_t*>(numbers);
    const std::int64_t half = D / 2, low = dim < half ? dim : half;
#pragma omp simd
    for (std::int64_t d = 0; d < low; ++d) sum[d] += scale * static_cast<float>((row[d] & 15) - 8);
#pragma omp simd
    for (std::int64_t d = half; d < dim; ++d)
      sum[d] += scale * static_cast<float>((row[d - half] >> 4) - 8);
  }
};

template <typename Row>
void means(float* out, const TokenTable& table, const Sentences& sentences, std::int64_t dim,
           bool normalize, std::int64_t first, std::int64_t last) {
  const std::int64_t bytes = Row::bytes(table, dim);
  for (std::int64_t i = first; i < last; ++i) {
    const std::int64_t* ids = sentences.ids + sentences.starts[i];
    const std::int64_t length = sentences.lengths[i];
    float* sum = out + i * dim;
    for (std::int64_t d = 0; d < dim; ++d) sum[d] = 0;
    for (std::int64_t t = 0; t < length; ++t) {
      if (t + ahead < length) fetch(Row::row(table, ids[t + ahead]), bytes);
      const float scale = Row::scaled ? table.scales[ids[t]] : 1.0f;
      Row::add(sum, Row::row(table, ids[t]), scale, table.D, dim);
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
const PoolingKernels pooling_kernels = {
    {means<Plain<float>>, means<Plain<bfloat16>>, means<Plain<std::int8_t>>, means<Nibbles>}};
}

}  // namespace ems
