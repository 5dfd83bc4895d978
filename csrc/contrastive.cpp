#include "contrastive.h"

#include <cstddef>
#include <vector>

namespace ems {
namespace {

uint64_t mix(uint64_t x) {  // ids may be consecutive: spread them over the table
  x ^= x >> 32;
  x *= 0x9E3779B97F4A7C15u;
  return x ^ (x >> 29);
}

}  // namespace

bool group_duplicates(int32_t* order, int32_t* begin, int32_t* end, const int64_t* ids,
                      int64_t count) {
  uint64_t capacity = 16;
  while (capacity < static_cast<uint64_t>(2 * count)) capacity *= 2;
  std::vector<int32_t> slots(capacity, -1);  // the group that lives here
  std::vector<int32_t> group(count), first, size;
  first.reserve(count);
  size.reserve(count);
  for (int64_t j = 0; j < count; ++j) {
    uint64_t slot = mix(static_cast<uint64_t>(ids[j])) & (capacity - 1);
    while (slots[slot] >= 0 && ids[first[slots[slot]]] != ids[j])
      slot = (slot + 1) & (capacity - 1);
    if (slots[slot] < 0) {
      slots[slot] = static_cast<int32_t>(first.size());
      first.push_back(static_cast<int32_t>(j));
      size.push_back(0);
    }
    group[j] = slots[slot];
    ++size[group[j]];
  }
  if (static_cast<int64_t>(first.size()) == count) return false;
  std::vector<int32_t> start(first.size()), filled(first.size());
  int32_t total = 0;
  for (std::size_t g = 0; g < first.size(); ++g) {
    start[g] = filled[g] = total;
    total += size[g];
  }
  for (int64_t j = 0; j < count; ++j) {
    const int32_t g = group[j];
    order[filled[g]++] = static_cast<int32_t>(j);
    begin[j] = start[g];
    end[j] = start[g] + size[g];
  }
  return true;
}

int64_t accumulate_workspace_size(int64_t rows, int64_t columns, bool bounded) {
  const int64_t slabs = (rows + slab_rows - 1) / slab_rows;
  return slabs * columns * (bounded ? 1 : 2);
}

}  // namespace ems
