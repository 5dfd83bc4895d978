// Work cut into even parts for plain threads.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

namespace ems {

// Calls run(first, last) for parts of 0 … count − 1, each on a thread of its own, and waits for
// all. A part holds at least `smallest` items: starting a thread takes as long as some work. Where
// the system gives no more threads, this one does their parts.
template <typename Run>
void in_parts(std::int64_t count, std::int64_t smallest, int threads, Run run) {
  const std::int64_t parts = std::clamp<std::int64_t>(count / smallest, 1, std::max(threads, 1));
  std::vector<std::thread> others;
  others.reserve(static_cast<std::size_t>(parts));
  for (std::int64_t part = 1; part < parts; ++part) {
    const std::int64_t first = count * part / parts, last = count * (part + 1) / parts;
    try {
      others.emplace_back(run, first, last);
    } catch (const std::system_error&) {
      run(first, last);
    }
  }
  run(std::int64_t{0}, count / parts);
  for (std::thread& other : others) other.join();
}

}  // namespace ems
