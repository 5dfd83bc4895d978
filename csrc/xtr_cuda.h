// The kernels of xtr.h for CUDA. They are enqueued in order, nothing waits for the device, and no
// memory is allocated: what they need comes from the caller.
//
// A chunk of logits is [n, B] here too. A warp's lanes take neighbouring rows of the batch, so every
// access is a full line of memory and a row's sum over words stays in one lane's register: no
// shuffles. Matrix products take either layout. Sums are joined in a fixed order, without atomics:
// the same input gives the same bits. Sums are float (double for double), those over the whole
// vocabulary double.
//
// Targets that are no valid matrix are not read beyond their bounds; a row with an id outside of
// the vocabulary gets the loss NaN. All pointers are to device memory.
#pragma once

#include <cstdint>

#include "queue.h"

namespace ems {
namespace cuda {

enum class Dtype : int { float32 = 0, float64 = 1, bfloat16 = 2, float16 = 3 };
constexpr int dtype_count = 4;

// Elements of sum_t that `softmax` needs for a chunk.
std::int64_t softmax_workspace_size(std::int64_t n, std::int64_t B);

// As XtrKernels::softmax.
void softmax(void* z, void* shift, double* total, void* rescale, void* workspace, Dtype dtype,
             std::int64_t n, std::int64_t B, Queue queue);

// As XtrKernels::probabilities.
void probabilities(void* z, const void* logsumexp, Dtype dtype, std::int64_t n, std::int64_t B,
                   Queue queue);

// out [size] = in * *scale, or out += in * *scale, all of sum_t; scale null: 1.
void accumulate(void* out, const void* in, const void* scale, bool wide, bool add,
                std::int64_t size, Queue queue);

// out [B, D] (sum_t) = targets . weight, mass [B] = sum q, entropy [B] = sum q log q; K entries.
void gather(void* out, double* mass, double* entropy, const std::int64_t* indptr,
            const std::int64_t* indices, const float* q, const void* weight, Dtype dtype,
            std::int64_t B, std::int64_t D, std::int64_t V, std::int64_t K, Queue queue);

// out [n, D] += value * scale[row] * hidden[row] for each of K entries, sorted by word, whose word
// is in [first_word, first_word + n); the entries of the word of entry k end before ends[k]. All of
// sum_t (`wide`: double).
void scatter(void* out, const std::int64_t* words, const std::int64_t* ends,
             const std::int64_t* rows, const void* values, const void* scale, const void* hidden,
             bool wide, std::int64_t first_word, std::int64_t n, std::int64_t B, std::int64_t D,
             std::int64_t K, Queue queue);

}  // namespace cuda
}  // namespace ems
