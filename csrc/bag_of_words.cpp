#include "bag_of_words.h"

#include <algorithm>
#include <limits>

namespace ems {

template <typename Id>
BagResult bag_of_words(std::int64_t* indptr, std::int64_t* indices, float* weights, const Id* ids,
                       const std::int64_t* begins, const std::int64_t* lengths, std::int64_t stride,
                       std::int64_t B, std::int64_t vocabulary, Weighting weighting) noexcept {
  std::int64_t entries = 0;
  indptr[0] = 0;
  for (std::int64_t row = 0; row < B; ++row) {
    const Id* tokens = ids + (begins ? begins[row] : row * stride);
    const std::int64_t T = lengths ? lengths[row] : begins[row + 1] - begins[row];
    // There is room for every token, so the row is sorted and compacted where it ends up.
    std::int64_t* out = indices + entries;
    float* weight = weights + entries;
    for (std::int64_t t = 0; t < T; ++t) {
      out[t] = static_cast<std::int64_t>(tokens[t]);
      if (out[t] < 0 || (vocabulary >= 0 && out[t] >= vocabulary)) return {-1, row, t};
    }
    std::sort(out, out + T);
    std::int64_t distinct = 0;
    for (std::int64_t begin = 0, end; begin < T; begin = end) {
      for (end = begin + 1; end < T && out[end] == out[begin];) ++end;
      out[distinct] = out[begin];
      const double n = weighting == Weighting::count ? static_cast<double>(end - begin) : 1.0;
      weight[distinct] = static_cast<float>(n / static_cast<double>(T));
      ++distinct;
    }
    if (weighting == Weighting::distinct)
      std::fill(weight, weight + distinct, static_cast<float>(1.0 / static_cast<double>(distinct)));
    entries += distinct;
    indptr[row + 1] = entries;
  }
  return {entries, -1, -1};
}

#define EMS_INSTANTIATE(Id)                                                                   \
  template BagResult bag_of_words<Id>(std::int64_t*, std::int64_t*, float*, const Id*,        \
                                      const std::int64_t*, const std::int64_t*, std::int64_t, \
                                      std::int64_t, std::int64_t, Weighting) noexcept;
EMS_INSTANTIATE(std::uint16_t)
EMS_INSTANTIATE(std::uint32_t)
EMS_INSTANTIATE(std::int32_t)
EMS_INSTANTIATE(std::int64_t)

bool is_bag_of_words(const std::int64_t* indptr, const std::int64_t* indices, const float* weights,
                     std::int64_t B, std::int64_t V, std::int64_t K) noexcept {
  // Without branches, so that every loop vectorises: a number below 0 has the sign bit, and so has
  // the difference of one that is too large. Unsigned, as differences of the others may wrap.
  using Bits = std::uint64_t;
  const auto k = static_cast<Bits>(K), last = static_cast<Bits>(V) - 1;
  Bits bits = 0;
  for (std::int64_t row = 0; row < B; ++row) {
    const auto begin = static_cast<Bits>(indptr[row]), end = static_cast<Bits>(indptr[row + 1]);
    bits |= begin | (k - begin) | (end - begin);
  }
  for (std::int64_t entry = 0; entry < K; ++entry) {
    const auto id = static_cast<Bits>(indices[entry]);
    bits |= id | (last - id);
  }
  // NaN compares to nothing.
  std::int32_t bad = 0;
  for (std::int64_t entry = 0; entry < K; ++entry)
    bad |= !(weights[entry] >= 0) | !(weights[entry] <= std::numeric_limits<float>::max());
  return indptr[0] == 0 && indptr[B] == K && bits >> 63 == 0 && bad == 0;
}

}  // namespace ems
