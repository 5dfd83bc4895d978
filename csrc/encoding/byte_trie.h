// A trie over bytes in one array (a double array, Aoe 1989): a step is one read.
#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

namespace ems {

class ByteTrie {
 public:
  // The child of a node for byte c lies at the node's base ^ c if it has the label c. No two nodes
  // have the same base, so that a label proves whose child it is.
  struct Unit {
    std::uint32_t link;  // base << 9 | label
    std::int32_t value;  // −1: no key ends here
    std::uint32_t label() const { return link & 0x1FF; }
    std::uint32_t base() const { return link >> 9; }
  };

  // Keys with their values ≥ 0, sorted by their bytes, distinct, not empty and without the byte 0.
  // Throws NotCovered if they need more than 8 million units.
  explicit ByteTrie(const std::vector<std::pair<std::string_view, std::int32_t>>& sorted);

  const Unit* units() const { return units_.data(); }
  std::uint32_t root() const { return root_; }  // its base

  // Length of the longest key that `text` begins with, which a byte 0 ends; 0 if there is none.
  std::int64_t longest(const std::uint8_t* text) const {
    std::int64_t found = 0;
    std::uint32_t base = root_;
    for (std::int64_t i = 0;; ++i) {
      const Unit unit = units_[base ^ text[i]];
      if (unit.label() != text[i]) return found;
      if (unit.value >= 0) found = i + 1;
      base = unit.base();
    }
  }

 private:
  class Builder;
  std::vector<Unit> units_;
  std::uint32_t root_;
};

}  // namespace ems
