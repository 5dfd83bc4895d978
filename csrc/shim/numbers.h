// bfloat16 and half as CUDA names them, in portable C++: rounding to nearest, ties to even.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

struct __nv_bfloat16 {
  std::uint16_t bits;
};
struct __half {
  std::uint16_t bits;
};

inline float __bfloat162float(__nv_bfloat16 x) {
  const std::uint32_t wide = static_cast<std::uint32_t>(x.bits) << 16;
  float value;
  std::memcpy(&value, &wide, sizeof value);
  return value;
}

inline __nv_bfloat16 __float2bfloat16(float x) {
  if (std::isnan(x)) return {0x7fff};
  std::uint32_t wide;
  std::memcpy(&wide, &x, sizeof wide);
  return {static_cast<std::uint16_t>((wide + 0x7fffu + ((wide >> 16) & 1u)) >> 16)};
}

inline float __half2float(__half x) {
  const int exponent = x.bits >> 10 & 31, mantissa = x.bits & 1023;
  float value;
  if (exponent == 31)
    value = mantissa ? std::nanf("") : HUGE_VALF;
  else if (exponent == 0)
    value = std::ldexp(static_cast<float>(mantissa), -24);
  else
    value = std::ldexp(static_cast<float>(mantissa + 1024), exponent - 25);
  return x.bits & 0x8000 ? -value : value;
}

inline __half __float2half(float x) {
  const std::uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  if (std::isnan(x)) return {0x7fff};
  const float size = std::fabs(x);
  if (size >= 65520.0f) return {static_cast<std::uint16_t>(sign | 0x7c00)};  // rounds to infinity
  int exponent = 0;
  std::frexp(size, &exponent);  // size = f · 2^exponent, f in [1/2, 1)
  const bool subnormal = size < 6.103515625e-5f;  // 2^-14, below which spacing stops to shrink
  // Units in the last place, ties to even.
  const int ulp = subnormal ? -24 : exponent - 11;
  const auto units = static_cast<std::uint16_t>(std::nearbyint(std::ldexp(size, -ulp)));
  // A carry out of the mantissa moves on into the exponent by itself.
  const int biased = subnormal ? 0 : exponent + 13;
  return {static_cast<std::uint16_t>(sign | (biased * 1024 + units))};
}
