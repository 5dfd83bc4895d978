#include "encoding/byte_trie.h"

#include "encoding/sentencepiece.h"

namespace ems {
namespace {

constexpr std::uint32_t block = 256;
constexpr std::uint32_t nothing = 0x1FF;  // a label that no byte equals
constexpr std::uint32_t most = 1u << 23;  // units that a base can tell
// Gaps of older blocks stay: looking through all of them for every node would take long.
constexpr std::uint32_t open_blocks = 16;

}  // namespace

class ByteTrie::Builder {
 public:
  // The first block has no children in it: it is where nodes without children look for some.
  explicit Builder(std::vector<Unit>& units) : units_(units) { grow(false); }

  // A base that no other node has, with a free unit for every label, which are taken.
  std::uint32_t place(const std::vector<std::uint8_t>& labels) {
    for (std::uint32_t at = first_; at; at = next_[at]) {
      const std::uint32_t base = at ^ labels[0];
      if (!is_base_[base] && all_free(base, labels)) return take(base, labels);
    }
    const std::uint32_t start = grow(true);
    return take(start ^ labels[0], labels);
  }

 private:
  bool all_free(std::uint32_t base, const std::vector<std::uint8_t>& labels) const {
    for (const std::uint8_t label : labels)
      if (!is_free_[base ^ label]) return false;
    return true;
  }

  std::uint32_t take(std::uint32_t base, const std::vector<std::uint8_t>& labels) {
    is_base_[base] = true;
    for (const std::uint8_t label : labels) {
      unlink(base ^ label);
      units_[base ^ label] = {label, -1};
    }
    return base;
  }

  std::uint32_t grow(bool usable) {
    const auto start = static_cast<std::uint32_t>(units_.size());
    const std::uint32_t end = start + block;
    if (end > most) throw NotCovered("its pieces make too large a trie");
    units_.resize(end, {nothing, -1});
    is_base_.resize(end, false);
    is_free_.resize(end, usable);
    next_.resize(end, 0);
    previous_.resize(end, 0);
    if (!usable) return start;
    for (std::uint32_t at = start; at < end; ++at) {
      previous_[at] = last_;
      (last_ ? next_[last_] : first_) = at;
      last_ = at;
    }
    // Unit 0 is never free, so that 0 ends the list.
    if (start > open_blocks * block)
      for (std::uint32_t at = start - open_blocks * block, n = 0; n < block; ++at, ++n)
        if (is_free_[at]) unlink(at);
    return start;
  }

  void unlink(std::uint32_t at) {
    is_free_[at] = false;
    (previous_[at] ? next_[previous_[at]] : first_) = next_[at];
    (next_[at] ? previous_[next_[at]] : last_) = previous_[at];
  }

  std::vector<Unit>& units_;
  std::vector<bool> is_base_, is_free_;
  std::vector<std::uint32_t> next_, previous_;
  std::uint32_t first_ = 0, last_ = 0;
};

ByteTrie::ByteTrie(const std::vector<std::pair<std::string_view, std::int32_t>>& sorted) {
  Builder builder(units_);
  // Keys first … last − 1 share the `depth` bytes that lead to a node; 0 is the root's.
  struct Range {
    std::uint32_t node;
    std::size_t first, last, depth;
  };
  root_ = 0;
  std::vector<Range> waiting = {{0, 0, sorted.size(), 0}};
  std::vector<std::uint8_t> labels;
  std::vector<std::size_t> begins;
  while (!waiting.empty()) {
    Range range = waiting.back();
    waiting.pop_back();
    if (range.first < range.last && sorted[range.first].first.size() == range.depth)
      units_[range.node].value = sorted[range.first++].second;
    if (range.first == range.last) continue;
    labels.clear();
    begins.clear();
    for (std::size_t i = range.first; i < range.last; ++i) {
      const auto label = static_cast<std::uint8_t>(sorted[i].first[range.depth]);
      if (!labels.empty() && labels.back() == label) continue;
      labels.push_back(label);
      begins.push_back(i);
    }
    begins.push_back(range.last);
    const std::uint32_t base = builder.place(labels);
    if (range.depth == 0)
      root_ = base;
    else
      units_[range.node].link |= base << 9;
    for (std::size_t i = labels.size(); i-- > 0;)
      waiting.push_back({base ^ labels[i], begins[i], begins[i + 1], range.depth + 1});
  }
}

}  // namespace ems
