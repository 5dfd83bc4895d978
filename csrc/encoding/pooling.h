// Means of rows of a table [V, D]: what encoding with a token table computes, for any storage of it.
//
// Threads are plain ones, not OpenMP's: a process that only encodes needs no OpenMP runtime.
#pragma once

#include <cstdint>

#include "isa.h"

namespace ems {

enum class RowType : int { float32 = 0, bfloat16 = 1, int8 = 2 };
constexpr int row_type_count = 3;

struct TokenTable {
  const void* rows;     // [V, D] of its type
  const float* scales;  // [V], what a row of int8 is multiplied by; not read for other types
  RowType type;
  std::int64_t V, D;
};

// B sentences: sentence i has the ids at starts[i] … starts[i] + lengths[i] − 1.
struct Sentences {
  const std::int64_t* ids;
  const std::int64_t* starts;
  const std::int64_t* lengths;
  std::int64_t B;
};

// What `means` does for sentences first … last − 1, compiled for each instruction set; ids are
// known to lie below V.
struct PoolingKernels {
  void (*means[row_type_count])(float* out, const TokenTable& table, const Sentences& sentences,
                                std::int64_t dim, bool normalize, std::int64_t first,
                                std::int64_t last);
};
EMS_SELECT_TABLE(PoolingKernels, pooling_kernels)

// out [B, dim]: the mean of a sentence's rows in their first `dim` columns, summed in float32 in the
// order of the tokens, and zero without a token; with `normalize` divided by its length, if that is
// above 1e-12. False, and nothing written, if an id lies outside of [0, V).
bool means(float* out, const TokenTable& table, const Sentences& sentences, std::int64_t dim,
           bool normalize, int threads);

}  // namespace ems
