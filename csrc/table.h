// Rows of a table of token vectors, [V, D] in float32: what its optimiser does to those that a
// batch has touched.
#pragma once

#include <cstdint>

#include "isa.h"

namespace ems {

struct AdagradStep {
  float lr, eps, weight_decay;
};

struct TableKernels {
  // For each of `count` distinct rows r with gradient g = gradient[i], [count, D]:
  // sums[r] += mean(g²), table[r] -= lr (g / (√sums[r] + eps) + weight_decay table[r]).
  // False, and nothing done, if a row lies outside of [0, V).
  bool (*adagrad)(float* table, float* sums, const std::int64_t* rows, const float* gradient,
                  std::int64_t count, std::int64_t D, std::int64_t V, AdagradStep step,
                  int threads);
};
EMS_SELECT_TABLE(TableKernels, table_kernels)

}  // namespace ems
