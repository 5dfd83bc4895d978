#include "align.h"

namespace ems {
namespace {

void dots(float* out, const float* x, const float* y, std::int64_t count, std::int64_t D) {
  std::int64_t k = 0;
  for (; k + 4 <= count; k += 4) {  // four at a time, so that x is read once for all of them
    const float *y0 = y + k * D, *y1 = y0 + D, *y2 = y1 + D, *y3 = y2 + D;
    float a = 0, b = 0, c = 0, d = 0;
#pragma omp simd reduction(+ : a, b, c, d)
    for (std::int64_t i = 0; i < D; ++i) {
      a += x[i] * y0[i];
      b += x[i] * y1[i];
      c += x[i] * y2[i];
      d += x[i] * y3[i];
    }
    out[k] = a, out[k + 1] = b, out[k + 2] = c, out[k + 3] = d;
  }
  for (; k < count; ++k) {
    float a = 0;
#pragma omp simd reduction(+ : a)
    for (std::int64_t i = 0; i < D; ++i) a += x[i] * y[k * D + i];
    out[k] = a;
  }
}

}  // namespace

namespace EMS_ISA {
const AlignKernels align_kernels = {dots};
}

}  // namespace ems
