#include "encoding/pooling.h"

#include "encoding/threads.h"

namespace ems {
namespace {

// Sentences that take about as long as a thread takes to start.
constexpr std::int64_t smallest = 256;

}  // namespace

bool means(float* out, const TokenTable& table, const Sentences& sentences, std::int64_t dim,
           bool normalize, int threads) {
  for (std::int64_t i = 0; i < sentences.B; ++i)
    for (std::int64_t t = 0; t < sentences.lengths[i]; ++t) {
      const std::int64_t id = sentences.ids[sentences.starts[i] + t];
      if (id < 0 || id >= table.V) return false;
    }
  auto* const run = active_pooling_kernels().means[static_cast<int>(table.type)];
  in_parts(sentences.B, smallest, threads, [&](std::int64_t first, std::int64_t last) {
    run(out, table, sentences, dim, normalize, first, last);
  });
  return true;
}

}  // namespace ems
