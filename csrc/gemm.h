// Matrix products of float32 matrices with the sums in a fixed order: results do not depend on the number of
// threads. For products whose operands or results the objectives' kernels touch anyway, and for
// processors on which torch's BLAS is slow.
#pragma once

#include <cstdint>

#include "isa.h"

namespace ems {

// The products of one kind.
struct GemmProducts {
  // Words of 4 bytes that `pack` fills for an operand B [K, N].
  std::int64_t (*packed_size)(std::int64_t K, std::int64_t N);

  // An operand that stays while others pass by, in the order in which `multiply` reads it: of
  // from [K, N], or of from [N, K] if `transposed`.
  void (*pack)(void* packed, const float* from, std::int64_t stride, bool transposed,
               std::int64_t K, std::int64_t N, int threads);

  // c [M, N] = a [M, K] B, or +=, B as `pack` left it.
  void (*multiply)(float* c, std::int64_t c_stride, const float* a, std::int64_t a_stride,
                   const void* packed, std::int64_t M, std::int64_t N, std::int64_t K, bool add,
                   int threads);

  // c [M, N] = aᵀ b, or +=, for a [K, M] and b [K, N].
  void (*multiply_transposed)(float* c, std::int64_t c_stride, const float* a,
                              std::int64_t a_stride, const float* b, std::int64_t b_stride,
                              std::int64_t M, std::int64_t N, std::int64_t K, bool add,
                              int threads);
};

struct GemmTable {
  // Whether these products are worth calling: false where the compiler had no wide vectors.
  bool fast;
  GemmProducts exact;
  // Operands rounded to bfloat16 on the way, sums in float32; null where not compiled.
  GemmProducts rounded;
};
EMS_SELECT_TABLE(GemmTable, gemm_table)

// Whether this processor runs the active table's rounded products.
inline bool has_rounded_gemm() {
  return active_gemm_table().rounded.multiply && has_fast_bfloat16();
}

}  // namespace ems
