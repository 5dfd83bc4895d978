// Means of rows of a table [V, D]: what encoding with a token table computes, for any storage of it.
//
// Threads are plain ones, not OpenMP's: a process that only encodes needs no OpenMP runtime.
#pragma once

#include <cstdint>

#include "isa.h"

namespace ems {

// A row of int4 has D / 2 bytes: byte d holds 8 + the number of column d in its lower four bits, and
// 8 + that of column D / 2 + d in its upper four.
enum class RowType : int { float32 = 0, bfloat16 = 1, int8 = 2, int4 = 3 };
constexpr int row_type_count = 4;

struct TokenTable {
  const void* rows;     // [V, D] of its type
  const float* scales;  // [V], what a row of int8 or int4 is multiplied by; not read otherwise
  RowType type;
  std::int64_t V, D;
};

// Pairs of neighbouring tokens that have rows of their own, behind those of all tokens: phrase k has
// row tokens + k.
struct Phrases {
  const std::int64_t* keys;  // [K], ascending: first * tokens + second
  const std::int64_t*
      begins;              // [tokens + 1]: keys of first token i are begins[i] … begins[i + 1] - 1
  std::int64_t tokens, K;  // K may be 0; then nothing else is read
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

// out [B, dim]: the mean of the rows of a sentence's tokens and phrases in their first `dim` columns,
// summed in float32 in the order of the tokens, a phrase behind its second one, and zero without a
// token; with `normalize` divided by its length, if that is above 1e-12. False, and nothing written,
// if an id is no token: outside of [0, V - K).
bool means(float* out, const TokenTable& table, const Phrases& phrases, const Sentences& sentences,
           std::int64_t dim, bool normalize, int threads);

}  // namespace ems
