// XTR: everything around the matrix products of the bag-of-words cross-entropy
//     loss_i = sum_w q_iw log q_iw + (sum_w q_iw) * logsumexp_w(z_iw) - sum_w q_iw z_iw,
// with z = hidden . weight^T.
//
// The vocabulary is worked through in chunks of n words. A chunk of logits is [n, B]: a word's
// logits of all rows are adjacent, so that every loop over rows vectorises without a horizontal
// sum, and the product's result and the gradient's operand need no transpose.
//
// `Dtype` is that of the chunk or of the weight matrix; sums are float for float and bfloat16,
// double for double (written "sum_t" below, passed as void*). All matrices are dense, row-major.
#pragma once

#include <cstdint>

#include "isa.h"

namespace ems {

enum class Dtype : int { float32 = 0, float64 = 1, bfloat16 = 2 };

struct XtrKernels {
  // Turns logits z [n, B] into e = exp(z - shift), where shift [B] is each row's largest
  // logit so far, this chunk included; total [B] is the sum of e over all words so far.
  // In: shift and total of the words before. Out: z, shift, total, and rescale [B] = exp(old shift
  // - new shift), which brings what was accumulated before to the new shift.
  void (*softmax)(void* z, void* shift, double* total, void* rescale, std::int64_t n,
                  std::int64_t B, int threads);

  // z = exp(z - logsumexp), the probabilities of n words.
  void (*probabilities)(void* z, const void* logsumexp, std::int64_t n, std::int64_t B,
                        int threads);

  // out [n, D] (sum_t) = in, or out += in.
  void (*accumulate)(void* out, const void* in, bool add, std::int64_t size, int threads);

  // Dtype of weight from here on.
  // out [B, D] (sum_t) = targets . weight, mass [B] = sum q, entropy [B] = sum q log q.
  void (*gather)(void* out, double* mass, double* entropy, const std::int64_t* indptr,
                 const std::int64_t* indices, const float* q, const void* weight, std::int64_t B,
                 std::int64_t D, int threads);
};

// The sparse part of the weight's gradient: out [n, D] += sum over the word's entries of
// value * scale[row] * hidden[row], all of sum_t (float or double).
struct XtrScatter {
  void (*float32)(float* out, const std::int64_t* wordptr, const std::int32_t* rows,
                  const float* values, const float* scale, const float* hidden, std::int64_t n,
                  std::int64_t D, int threads);
  void (*float64)(double* out, const std::int64_t* wordptr, const std::int32_t* rows,
                  const double* values, const double* scale, const double* hidden, std::int64_t n,
                  std::int64_t D, int threads);
};

// The product of a chunk and its exponentials in one pass, in float32: e [n, B] =
// exp(weight hiddenᵀ - shift), made while the logits are in the first-level cache.
// weight [n, D]; hidden [B, D] as GemmTable::pack left it, transposed. With
// total [B], the sums of e over the n words are added to it. False if a logit exceeds its shift by
// more than MAX_RISE or is NaN: then total is as it was, and e is of no use.
using XtrExponentials = bool (*)(float* e, const float* weight, const float* hidden,
                                 const float* shift, double* total, std::int64_t n, std::int64_t B,
                                 std::int64_t D, int threads);

struct XtrTable {
  XtrKernels kernels[3];  // by Dtype
  XtrScatter scatter;
  XtrExponentials exponentials;
};
EMS_SELECT_TABLE(XtrTable, xtr_table)

// Targets by word instead of by row: wordptr [V + 1], and of each entry its row and weight.
template <typename Value>
void xtr_transpose(std::int64_t* wordptr, std::int32_t* rows, Value* values,
                   const std::int64_t* indptr, const std::int64_t* indices, const float* q,
                   std::int64_t B, std::int64_t V);

}  // namespace ems
