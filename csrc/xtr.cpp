#include "xtr.h"

#include <algorithm>

namespace ems {

template <typename Value>
void xtr_transpose(std::int64_t* wordptr, std::int32_t* rows, Value* values,
                   const std::int64_t* indptr, const std::int64_t* indices, const float* q,
                   std::int64_t B, std::int64_t V) {
  // A counting sort: stable, so that a word's rows ascend and its sum has one order.
  std::fill(wordptr, wordptr + V + 1, 0);
  for (std::int64_t k = 0; k < indptr[B]; ++k) ++wordptr[indices[k] + 1];
  for (std::int64_t word = 0; word < V; ++word) wordptr[word + 1] += wordptr[word];
  for (std::int64_t row = 0; row < B; ++row)
    for (std::int64_t k = indptr[row]; k < indptr[row + 1]; ++k) {
      const std::int64_t slot = wordptr[indices[k]]++;
      rows[slot] = static_cast<std::int32_t>(row);
      values[slot] = static_cast<Value>(q[k]);
    }
  // Each start has moved on to the next word's.
  for (std::int64_t word = V; word > 0; --word) wordptr[word] = wordptr[word - 1];
  wordptr[0] = 0;
}

template void xtr_transpose<float>(std::int64_t*, std::int32_t*, float*, const std::int64_t*,
                                   const std::int64_t*, const float*, std::int64_t, std::int64_t);
template void xtr_transpose<double>(std::int64_t*, std::int32_t*, double*, const std::int64_t*,
                                    const std::int64_t*, const float*, std::int64_t, std::int64_t);

}  // namespace ems
