#include "encoding/pooling.h"

#include <algorithm>
#include <vector>

#include "encoding/threads.h"

namespace ems {
namespace {

// Sentences that take about as long as a thread takes to start.
constexpr std::int64_t smallest = 256;

// The row of the phrase that two tokens make, or -1.
std::int64_t phrase_row(const Phrases& phrases, std::int64_t first, std::int64_t second) {
  const std::int64_t key = first * phrases.tokens + second;
  const std::int64_t* const end = phrases.keys + phrases.begins[first + 1];
  const std::int64_t* const at = std::lower_bound(phrases.keys + phrases.begins[first], end, key);
  return at != end && *at == key ? phrases.tokens + (at - phrases.keys) : -1;
}

// The rows of some sentences one after another, phrases among them.
struct Rows {
  std::vector<std::int64_t> ids, starts, lengths;

  Rows(const Phrases& phrases, const Sentences& sentences, std::int64_t first, std::int64_t last) {
    for (std::int64_t i = first; i < last; ++i) {
      const std::int64_t* tokens = sentences.ids + sentences.starts[i];
      const std::size_t start = ids.size();
      for (std::int64_t t = 0; t < sentences.lengths[i]; ++t) {
        ids.push_back(tokens[t]);
        const std::int64_t row = t ? phrase_row(phrases, tokens[t - 1], tokens[t]) : -1;
        if (row >= 0) ids.push_back(row);
      }
      starts.push_back(static_cast<std::int64_t>(start));
      lengths.push_back(static_cast<std::int64_t>(ids.size() - start));
    }
  }
};

}  // namespace

bool means(float* out, const TokenTable& table, const Phrases& phrases, const Sentences& sentences,
           std::int64_t dim, bool normalize, int threads) {
  for (std::int64_t i = 0; i < sentences.B; ++i)
    for (std::int64_t t = 0; t < sentences.lengths[i]; ++t) {
      const std::int64_t id = sentences.ids[sentences.starts[i] + t];
      if (id < 0 || id >= table.V - phrases.K) return false;
    }
  auto* const run = active_pooling_kernels().means[static_cast<int>(table.type)];
  in_parts(sentences.B, smallest, threads, [&](std::int64_t first, std::int64_t last) {
    if (phrases.K == 0) return run(out, table, sentences, dim, normalize, first, last);
    const Rows rows(phrases, sentences, first, last);
    const Sentences joined = {rows.ids.data(), rows.starts.data(), rows.lengths.data(),
                              last - first};
    run(out + first * dim, table, joined, dim, normalize, 0, joined.B);
  });
  return true;
}

}  // namespace ems
