#include "align.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>
#include <vector>

namespace ems {
namespace {

// Rows whose costs are computed before the programme walks over them: enough for all threads.
constexpr std::int64_t chunk_rows = 128;

class Programme {
 public:
  Programme(const AlignSide& source, const AlignSide& target, const AlignBand& band, std::int64_t S,
            std::int64_t D, double skip)
      : source_(source),
        target_(target),
        band_(band),
        S_(S),
        D_(D),
        skip_(skip),
        back_(static_cast<std::size_t>(band.offsets[source.lines + 1])) {
    std::int64_t widest = 0, chunk = 0;
    for (std::int64_t i = 0; i <= source.lines; ++i) {
      const std::int64_t chunk_end = std::min(i - i % chunk_rows + chunk_rows, source.lines + 1);
      widest = std::max(widest, width(i));
      chunk = std::max(chunk, band.offsets[chunk_end] - band.offsets[i - i % chunk_rows]);
    }
    stride_ = widest;
    totals_.resize(static_cast<std::size_t>((S + 1) * widest));
    costs_.resize(static_cast<std::size_t>(S * S * chunk));
  }

  double run(int threads) {
    for (std::int64_t first = 0; first <= source_.lines; first += chunk_rows) {
      const std::int64_t last = std::min(first + chunk_rows, source_.lines + 1);
#pragma omp parallel for schedule(dynamic, 4) num_threads(threads)
      for (std::int64_t i = first; i < last; ++i) compute_costs(i, first);
      for (std::int64_t i = first; i < last; ++i) walk(i, first);
    }
    return totals(source_.lines)[target_.lines - band_.begins[source_.lines]];
  }

  std::int64_t trace(std::int64_t* source_ends, std::int64_t* target_ends) const {
    std::int64_t i = source_.lines, j = target_.lines, corners = 0;
    while (true) {
      source_ends[corners] = i;
      target_ends[corners++] = j;
      if (i == 0 && j == 0) return corners;
      const std::uint8_t block = back_[band_.offsets[i] + j - band_.begins[i]];
      if (block == 0) throw std::invalid_argument("band: has a gap, or costs are no numbers");
      i -= block >> 4;
      j -= block & 15;
    }
  }

 private:
  std::int64_t width(std::int64_t i) const { return band_.offsets[i + 1] - band_.offsets[i]; }
  double* totals(std::int64_t i) { return totals_.data() + i % (S_ + 1) * stride_; }

  // Of the blocks (n, m) that end in the cells of row i: [S, S, width].
  float* costs(std::int64_t i, std::int64_t first) {
    return costs_.data() + (band_.offsets[i] - band_.offsets[first]) * S_ * S_;
  }

  void compute_costs(std::int64_t i, std::int64_t first) {
    const std::int64_t begin = band_.begins[i], w = width(i);
    for (std::int64_t n = 1; n <= std::min(S_, i); ++n) {
      const std::int64_t x = (n - 1) * source_.lines + i - n;
      for (std::int64_t m = 1; m <= S_; ++m) {
        // The columns before m have no room for the block.
        const std::int64_t left = std::max<std::int64_t>(m - begin, 0);
        if (left >= w) continue;
        float* out = costs(i, first) + ((n - 1) * S_ + m - 1) * w + left;
        const std::int64_t y = (m - 1) * target_.lines + begin + left - m;
        active_align_kernels().dots(out, source_.vectors + x * D_, target_.vectors + y * D_,
                                    w - left, D_);
        const float weight = static_cast<float>(n * m);
        for (std::int64_t k = 0; k < w - left; ++k) {
          const float distances = source_.distances[x] + target_.distances[y + k];
          const float length = std::abs(source_.lengths[x] - target_.lengths[y + k]);
          out[k] =
              weight * (2.0f * std::max(1.0f - out[k], align_least_distance) / distances + length);
        }
      }
    }
  }

  void walk(std::int64_t i, std::int64_t first) {
    constexpr double never = std::numeric_limits<double>::infinity();
    const std::int64_t begin = band_.begins[i], w = width(i);
    double* total = totals(i);
    std::uint8_t* back = back_.data() + band_.offsets[i];
    std::fill(total, total + w, never);
    std::fill(back, back + w, 0);
    for (std::int64_t n = 1; n <= std::min(S_, i); ++n) {
      const std::int64_t from = band_.begins[i - n], end = from + width(i - n);
      const double* before = totals(i - n);
      for (std::int64_t m = 1; m <= S_; ++m) {
        const float* cost = costs(i, first) + ((n - 1) * S_ + m - 1) * w;
        for (std::int64_t j = std::max(begin, from + m); j < std::min(begin + w, end + m); ++j)
          reach(total, back, j - begin, before[j - m - from] + cost[j - begin], n, m);
      }
    }
    if (i > 0) {
      const std::int64_t from = band_.begins[i - 1], end = from + width(i - 1);
      for (std::int64_t j = std::max(begin, from); j < std::min(begin + w, end); ++j)
        reach(total, back, j - begin, totals(i - 1)[j - from] + skip_, 1, 0);
    } else {
      total[0] = 0;
    }
    for (std::int64_t k = 1; k < w; ++k) reach(total, back, k, total[k - 1] + skip_, 0, 1);
  }

  static void reach(double* total, std::uint8_t* back, std::int64_t k, double cost, std::int64_t n,
                    std::int64_t m) {
    if (!(cost < total[k])) return;
    total[k] = cost;
    back[k] = static_cast<std::uint8_t>(n << 4 | m);
  }

  const AlignSide source_, target_;
  const AlignBand band_;
  const std::int64_t S_, D_;
  const double skip_;
  std::int64_t stride_ = 0;
  std::vector<std::uint8_t> back_;
  std::vector<double> totals_;  // the last S + 1 rows
  std::vector<float> costs_;
};

}  // namespace

std::int64_t align_path(std::int64_t* source_ends, std::int64_t* target_ends, double* total,
                        const AlignSide& source, const AlignSide& target, const AlignBand& band,
                        std::int64_t S, std::int64_t D, double skip, int threads) {
  Programme programme(source, target, band, S, D, skip);
  *total = programme.run(threads);
  return programme.trace(source_ends, target_ends);
}

}  // namespace ems
