// Bags of words in compressed-sparse-row form, counted from sentences' tokens.
#pragma once

#include <cstdint>

namespace ems {

enum class Weighting : int {
  count = 0,     // n_w / T
  distinct = 1,  // 1 / (number of distinct tokens)
  released = 2,  // 1 / T for each distinct token
};
constexpr int weighting_count = 3;

struct BagResult {
  std::int64_t entries;  // K, or -1 if an id is out of range
  std::int64_t bad_row;  // where that id is
  std::int64_t bad_position;
};

// Row i holds ids[begins[i] .. begins[i] + lengths[i]). Packed sentences: begins = offsets;
// padded ones: begins = nullptr and row i starts at i * stride; without lengths, row i of packed
// sentences ends where the next begins.
// indptr [B + 1]; indices and weights have room for every token and get K entries, ids ascending.
// An id must be in [0, vocabulary); vocabulary < 0 means that only its sign is checked.
// Id is uint16_t, uint32_t, int32_t or int64_t. Touches no Python object: callable without the GIL.
template <typename Id>
BagResult bag_of_words(std::int64_t* indptr, std::int64_t* indices, float* weights, const Id* ids,
                       const std::int64_t* begins, const std::int64_t* lengths, std::int64_t stride,
                       std::int64_t B, std::int64_t vocabulary, Weighting weighting) noexcept;

// Whether these are B bags over V words with K entries: indptr ascends from 0 to K, ids are below V
// and weights finite and not negative. What follows the indices of such bags stays in bounds.
bool is_bag_of_words(const std::int64_t* indptr, const std::int64_t* indices, const float* weights,
                     std::int64_t B, std::int64_t V, std::int64_t K) noexcept;

}  // namespace ems
