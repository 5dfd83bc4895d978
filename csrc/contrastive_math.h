// exp as a plain expression: a loop around it vectorises for every instruction set.
//
// exp(x) = 2^n · exp(r), n = round(x / ln 2), |r| ≤ ln 2 / 2; exp(r) is its Taylor series up to the
// first term below the rounding error. Arguments under the smallest normal result give exactly 0,
// -inf included; NaN stays NaN. Arguments must not exceed 88 (float) or 709 (double).
// Everything is `static`: see isa.h.
#pragma once

#include <cstdint>

namespace ems {

// Adding 1.5 · 2^(mantissa bits) rounds to an integer and leaves it in the low bits of the sum.
static inline float vexp(float x) {
  const float magic = 12582912.0f;
  const float shifted = x * 1.44269504f + magic;
  const float n = shifted - magic;
  // ln 2 in two parts, the first of few bits, so that n · ln 2 cancels against x without error.
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.0f / 5040;
  p = p * r + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  uint32_t bits;
  __builtin_memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 127u) << 23;
  float scale;
  __builtin_memcpy(&scale, &bits, sizeof scale);
  const float y = p * scale;
  return x < -87.0f ? 0.0f : y;
}

static inline double vexp(double x) {
  const double magic = 6755399441055744.0;
  const double shifted = x * 1.4426950408889634 + magic;
  const double n = shifted - magic;
  const double r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
  double p = 1.0 / 6227020800;
  p = p * r + 1.0 / 479001600;
  p = p * r + 1.0 / 39916800;
  p = p * r + 1.0 / 3628800;
  p = p * r + 1.0 / 362880;
  p = p * r + 1.0 / 40320;
  p = p * r + 1.0 / 5040;
  p = p * r + 1.0 / 720;
  p = p * r + 1.0 / 120;
  p = p * r + 1.0 / 24;
  p = p * r + 1.0 / 6;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  uint64_t bits;
  __builtin_memcpy(&bits, &shifted, sizeof bits);
  bits = (bits + 1023u) << 52;
  double scale;
  __builtin_memcpy(&scale, &bits, sizeof scale);
  const double y = p * scale;
  return x < -708.0 ? 0.0 : y;
}

}  // namespace ems
