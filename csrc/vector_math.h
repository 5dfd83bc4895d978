// exp and bfloat16 conversions as straight-line code that the compiler vectorises inside a loop.
//
// Only for files compiled once per instruction set (*_cpu.cpp): everything has internal linkage,
// so that no copy compiled for one processor is linked into code for another. Call them from loops
// marked `#pragma omp simd`.
#pragma once

#include <cstdint>

namespace ems {
namespace {

#define EMS_INLINE [[gnu::always_inline]] static inline

EMS_INLINE float bits_to_float(std::uint32_t bits) {
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

EMS_INLINE std::uint32_t float_to_bits(float value) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

EMS_INLINE double bits_to_double(std::uint64_t bits) {
  double value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

EMS_INLINE std::uint64_t double_to_bits(double value) {
  std::uint64_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  return bits;
}

// e^x = 2^n e^r with n = round(x / ln 2), |r| <= ln(2) / 2, and e^r by a polynomial.
//
// Adding 1.5 * 2^23 (2^52) rounds to an integer and leaves it in the low bits of the sum, from
// where it goes to the exponent field. ln 2 is split in two so that n * ln2_high is exact.
// NaN stays NaN; below the smallest normal number the result is 0, above the largest it is inf.
EMS_INLINE float vexp(float x) {
  const float shifted = x * 1.44269504088896341f + 12582912.0f;
  const float n = shifted - 12582912.0f;
  const float r = (x - n * 0.693145751953125f) - n * 1.42860682030941723e-6f;
  float p = 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const float scale = bits_to_float((float_to_bits(shifted) << 23) + (127u << 23));
  const float y = p * scale;
  const float low = x < -87.33654f ? 0.0f : y;
  return x > 88.3762f ? __builtin_inff() : low;
}

EMS_INLINE double vexp(double x) {
  const double shifted = x * 1.44269504088896340736 + 6755399441055744.0;
  const double n = shifted - 6755399441055744.0;
  const double r = (x - n * 0.693147180369123816490) - n * 1.90821492927058770002e-10;
  double p = 1.0 / 6227020800.0;
  p = p * r + 1.0 / 479001600.0;
  p = p * r + 1.0 / 39916800.0;
  p = p * r + 1.0 / 3628800.0;
  p = p * r + 1.0 / 362880.0;
  p = p * r + 1.0 / 40320.0;
  p = p * r + 1.0 / 5040.0;
  p = p * r + 1.0 / 720.0;
  p = p * r + 1.0 / 120.0;
  p = p * r + 1.0 / 24.0;
  p = p * r + 1.0 / 6.0;
  p = p * r + 0.5;
  p = p * r + 1.0;
  p = p * r + 1.0;
  const double scale = bits_to_double((double_to_bits(shifted) << 52) + (1023ull << 52));
  const double y = p * scale;
  const double low = x < -708.39641853226408 ? 0.0 : y;
  return x > 709.43613 ? __builtin_inf() : low;
}

// bfloat16: the upper half of a float. An enumeration, since loops over a struct do not vectorise.
enum class bfloat16 : std::uint16_t {};

EMS_INLINE float widen(bfloat16 x) { return bits_to_float(static_cast<std::uint32_t>(x) << 16); }
EMS_INLINE float widen(float x) { return x; }
EMS_INLINE double widen(double x) { return x; }

// Rounds to nearest, ties to even; NaN stays NaN whatever its payload.
EMS_INLINE void narrow(bfloat16& out, float x) {
  const std::uint32_t u = float_to_bits(x);
  const std::uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  out = static_cast<bfloat16>(x != x ? 0x7fc0u : rounded);
}
EMS_INLINE void narrow(float& out, float x) { out = x; }
EMS_INLINE void narrow(double& out, double x) { out = x; }

// The same for what is no NaN, or where a NaN is known from elsewhere: some payloads become inf.
EMS_INLINE void narrow_number(bfloat16& out, float x) {
  const std::uint32_t u = float_to_bits(x);
  out = static_cast<bfloat16>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
EMS_INLINE void narrow_number(float& out, float x) { out = x; }
EMS_INLINE void narrow_number(double& out, double x) { out = x; }

}  // namespace
}  // namespace ems
