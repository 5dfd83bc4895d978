#include "xtr.h"

#include <cstdlib>

#include "gemm_kernel.h"
#include "vector_math.h"

namespace ems {
namespace {

// A tile of a chunk: SLAB words x at most TILE rows. Its shifts and sums stay in L1 while long
// stretches of logits stream by. Sums are float within a slab and double beyond, always in the order
// of words, so that a result does not depend on the number of threads.
constexpr std::int64_t SLAB = 32;
constexpr std::int64_t TILE = 512;

// Multiplications and additions that are over before a second thread has woken up.
constexpr std::int64_t SMALL = 1 << 18;

template <typename T> struct Sum { using type = float; };
template <> struct Sum<double> { using type = double; };
template <typename T> using sum_t = typename Sum<T>::type;

template <typename T>
void tile_max(sum_t<T>* out, const T* z, std::int64_t words, std::int64_t B, std::int64_t width) {
  for (std::int64_t v = 0; v < words; ++v) {
    const T* row = z + v * B;
#pragma omp simd
    for (std::int64_t j = 0; j < width; ++j) {
      const sum_t<T> x = widen(row[j]);
      out[j] = x > out[j] ? x : out[j];
    }
  }
}

template <typename T>
void tile_exp(sum_t<T>* out, T* z, const sum_t<T>* shift, std::int64_t words, std::int64_t B,
              std::int64_t width) {
  sum_t<T> local_shift[TILE], local_sum[TILE];
  for (std::int64_t j = 0; j < width; ++j) {
    local_shift[j] = shift[j];
    local_sum[j] = 0;
  }
  for (std::int64_t v = 0; v < words; ++v) {
    T* row = z + v * B;
#pragma omp simd
    for (std::int64_t j = 0; j < width; ++j) {
      const sum_t<T> e = vexp(widen(row[j]) - local_shift[j]);
      local_sum[j] += e;
      narrow_number(row[j], e);
    }
  }
  if (out)
    for (std::int64_t j = 0; j < width; ++j) out[j] = local_sum[j];
}

template <typename T>
void softmax(void* z_, void* shift_, double* total, void* rescale_, std::int64_t n, std::int64_t B,
             int threads) {
  using S = sum_t<T>;
  T* z = static_cast<T*>(z_);
  S* shift = static_cast<S*>(shift_);
  S* rescale = static_cast<S*>(rescale_);
  // Threads own columns, in whole cache lines: no barrier between the two passes.
  const std::int64_t share = (B + threads - 1) / threads;
  const std::int64_t width = least((share + 31) / 32 * 32, TILE);
#pragma omp parallel for num_threads(threads) schedule(static)
  for (std::int64_t b = 0; b < B; b += width) {
    const std::int64_t columns = least(width, B - b);
    S largest[TILE], partial[TILE];
    for (std::int64_t j = 0; j < columns; ++j) largest[j] = shift[b + j];
    tile_max(largest, z + b, n, B, columns);
    for (std::int64_t j = 0; j < columns; ++j) {
      // Equal also while both are -inf, where their difference would be NaN.
      const S before = shift[b + j];
      rescale[b + j] = largest[j] == before ? S(1) : vexp(before - largest[j]);
      shift[b + j] = largest[j];
      total[b + j] *= static_cast<double>(rescale[b + j]);
    }
    for (std::int64_t v = 0; v < n; v += SLAB) {
      tile_exp(partial, z + v * B + b, shift + b, least(SLAB, n - v), B, columns);
      for (std::int64_t j = 0; j < columns; ++j) total[b + j] += static_cast<double>(partial[j]);
    }
  }
}

template <typename T>
void probabilities(void* z_, const void* logsumexp_, std::int64_t n, std::int64_t B, int threads) {
  T* z = static_cast<T*>(z_);
  const sum_t<T>* logsumexp = static_cast<const sum_t<T>*>(logsumexp_);
  const std::int64_t slabs = (n + SLAB - 1) / SLAB, tiles = (B + TILE - 1) / TILE;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (std::int64_t i = 0; i < slabs * tiles; ++i) {
    const std::int64_t v = i / tiles * SLAB, b = i % tiles * TILE;
    tile_exp<T>(nullptr, z + v * B + b, logsumexp + b, least(SLAB, n - v), B,
                least(TILE, B - b));
  }
}

template <typename T>
void accumulate(void* out_, const void* in_, bool add, std::int64_t size, int threads) {
  sum_t<T>* out = static_cast<sum_t<T>*>(out_);
  const T* in = static_cast<const T*>(in_);
  if (add) {
#pragma omp parallel for simd num_threads(threads) schedule(static) if (size > SMALL)
    for (std::int64_t i = 0; i < size; ++i) out[i] += widen(in[i]);
  } else {
#pragma omp parallel for simd num_threads(threads) schedule(static) if (size > SMALL)
    for (std::int64_t i = 0; i < size; ++i) out[i] = widen(in[i]);
  }
}

template <typename S, typename T>
EMS_INLINE void add_scaled(S* out, const T* in, S scale, std::int64_t size) {
#pragma omp simd
  for (std::int64_t d = 0; d < size; ++d) out[d] += scale * widen(in[d]);
}

template <typename T>
void gather(void* out_, double* mass, double* entropy, const std::int64_t* indptr,
            const std::int64_t* indices, const float* q, const void* weight_, std::int64_t B,
            std::int64_t D, int threads) {
  using S = sum_t<T>;
  S* out = static_cast<S*>(out_);
  const T* weight = static_cast<const T*>(weight_);
#pragma omp parallel for num_threads(threads) schedule(dynamic, 4)
  for (std::int64_t b = 0; b < B; ++b) {
    S* row = out + b * D;
    for (std::int64_t d = 0; d < D; ++d) row[d] = 0;
    double sum = 0, information = 0;
    for (std::int64_t k = indptr[b]; k < indptr[b + 1]; ++k) {
      const double p = q[k];
      sum += p;
      information += p > 0 ? p * __builtin_log(p) : 0;
      add_scaled(row, weight + indices[k] * D, static_cast<S>(p), D);
    }
    mass[b] = sum;
    entropy[b] = information;
  }
}

template <typename S>
void scatter(S* out, const std::int64_t* wordptr, const std::int32_t* rows, const S* values,
             const S* scale, const S* hidden, std::int64_t n, std::int64_t D, int threads) {
  // Frequent words are neighbours in most vocabularies: hand out few words at a time.
#pragma omp parallel for num_threads(threads) schedule(dynamic, 16) \
    if ((wordptr[n] - wordptr[0]) * D > SMALL)
  for (std::int64_t v = 0; v < n; ++v)
    for (std::int64_t k = wordptr[v]; k < wordptr[v + 1]; ++k)
      add_scaled(out + v * D, hidden + rows[k] * D, values[k] * scale[rows[k]], D);
}

// How far a logit may exceed its row's shift: exponentials and their sums over any vocabulary stay
// far from the largest float, and lose no precision.
constexpr float MAX_RISE = 40.0f;

// z [MR or less, columns] → exp(z - shift), added to sum; whether all were as they should be.
EMS_INLINE bool exponentials_of_tile(float* z, std::int64_t stride, std::int64_t rows,
                                     std::int64_t columns, const float* shift, double* sum) {
  float partial[NR];
  std::int32_t bad = 0;
  for (std::int64_t j = 0; j < columns; ++j) partial[j] = 0;
  for (std::int64_t i = 0; i < rows; ++i) {
    float* row = z + i * stride;
#pragma omp simd reduction(+ : bad)
    for (std::int64_t j = 0; j < columns; ++j) {
      const float x = row[j] - shift[j];
      bad += x <= MAX_RISE ? 0 : 1;
      const float e = vexp(x);
      partial[j] += e;
      row[j] = e;
    }
  }
  if (sum)
    for (std::int64_t j = 0; j < columns; ++j) sum[j] += static_cast<double>(partial[j]);
  return bad == 0;
}

bool exponentials(float* e, const float* weight, const float* hidden, const float* shift, double* total, std::int64_t n, std::int64_t B, std::int64_t D,
                  int threads) {
  // Blocks of fixed size, whose sums are added in order: the same for any number of threads.
  constexpr std::int64_t block = PANELS * MR;
  const std::int64_t blocks = (n + block - 1) / block;
  double* sums = nullptr;
  if (total) sums = static_cast<double*>(std::calloc(blocks * B, sizeof(double)));
  std::int32_t bad = 0;
#pragma omp parallel num_threads(threads) reduction(+ : bad)
  {
    alignas(64) float panels[PANELS * MR * DEPTH];
#pragma omp for schedule(dynamic)
    for (std::int64_t i = 0; i < blocks; ++i) {
      const std::int64_t v = i * block;
      multiply_rows(e, B, weight, D, hidden, panels, v, least(block, n - v), B, D, false,
                    [&](std::int64_t row, std::int64_t rows, std::int64_t b, std::int64_t columns) {
        float* z = e + row * B + b;
        double* sum = sums ? sums + i * B + b : nullptr;
        // Loops of a known length are unrolled.
        const bool good = rows == MR && columns == NR
                              ? exponentials_of_tile(z, B, MR, NR, shift + b, sum)
                              : exponentials_of_tile(z, B, rows, columns, shift + b, sum);
        bad += good ? 0 : 1;
      });
    }
  }
  if (sums && bad == 0)
    for (std::int64_t i = 0; i < blocks; ++i)
      for (std::int64_t b = 0; b < B; ++b) total[b] += sums[i * B + b];
  std::free(sums);
  return bad == 0;
}

template <typename T>
constexpr XtrKernels make_kernels() {
  return {softmax<T>, probabilities<T>, accumulate<T>, gather<T>};
}

}  // namespace

namespace EMS_ISA {
const XtrTable xtr_table = {
    {make_kernels<float>(), make_kernels<double>(), make_kernels<bfloat16>()},
    {scatter<float>, scatter<double>},
    exponentials};
}

}  // namespace ems
