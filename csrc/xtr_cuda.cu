#include "xtr_cuda.h"

#include "device.h"

namespace ems {
namespace cuda {
namespace {

template <typename T> struct Sum { using type = float; };
template <> struct Sum<double> { using type = double; };
template <typename T> using sum_t = typename Sum<T>::type;

// A block works on `slab` words of 32 or 64 rows: its warps share the words, its lanes the rows.
constexpr int warps = 8;
constexpr std::int64_t slab = 128;
// Joining partial results: more warps, since there are few blocks.
constexpr int join_warps = 16;

// Neighbouring logits that a lane reads at once.
template <typename T, int count>
struct alignas(sizeof(T) * count) Pack {
  T x[count];
};

// The words of a slab that a warp takes, and the lane's rows of the batch.
template <int count>
struct Patch {
  std::int64_t row, word, end;
  bool inside;

  __device__ Patch(std::int64_t n, std::int64_t B) {
    const std::int64_t begin = blockIdx.x * slab;
    row = (static_cast<std::int64_t>(blockIdx.y) * warp_size + threadIdx.x) * count;
    word = begin + threadIdx.y;
    end = begin + slab < n ? begin + slab : n;
    inside = row < B;
  }
};

// partial [slabs, B]: the largest logit of each row among the words of a slab.
template <typename T, int count>
__global__ void max_kernel(sum_t<T>* partial, const T* z, std::int64_t n, std::int64_t B) {
  using S = sum_t<T>;
  EMS_SHARED(S, of_warp, warps * warp_size * count);
  const Patch<count> patch(n, B);
  S largest[count];
  for (S& x : largest) x = -INFINITY;
  if (patch.inside) {
    EMS_UNROLL
    for (std::int64_t v = patch.word; v < patch.end; v += warps) {
      const Pack<T, count> in = *reinterpret_cast<const Pack<T, count>*>(z + v * B + patch.row);
      for (int i = 0; i < count; ++i) {
        const S x = widen(in.x[i]);
        largest[i] = x > largest[i] ? x : largest[i];
      }
    }
  }
  for (int i = 0; i < count; ++i)
    of_warp[(threadIdx.y * count + i) * warp_size + threadIdx.x] = largest[i];
  __syncthreads();
  if (threadIdx.y > 0 || !patch.inside) return;
  for (int i = 0; i < count; ++i) {
    for (int w = 1; w < warps; ++w) {
      const S other = of_warp[(w * count + i) * warp_size + threadIdx.x];
      largest[i] = other > largest[i] ? other : largest[i];
    }
    partial[blockIdx.x * B + patch.row + i] = largest[i];
  }
}

// z = exp(z - shift); partial [slabs, B], unless null: their sums, before rounding.
template <typename T, int count>
__global__ void exp_kernel(sum_t<T>* partial, T* z, const sum_t<T>* shift, std::int64_t n,
                           std::int64_t B) {
  using S = sum_t<T>;
  EMS_SHARED(S, of_warp, warps * warp_size * count);
  const Patch<count> patch(n, B);
  S sum[count], subtract[count];
  for (int i = 0; i < count; ++i) {
    sum[i] = 0;
    subtract[i] = patch.inside ? shift[patch.row + i] : S(0);
  }
  if (patch.inside) {
    EMS_UNROLL
    for (std::int64_t v = patch.word; v < patch.end; v += warps) {
      Pack<T, count>* const at = reinterpret_cast<Pack<T, count>*>(z + v * B + patch.row);
      Pack<T, count> pack = *at;
      for (int i = 0; i < count; ++i) {
        const S e = exp(widen(pack.x[i]) - subtract[i]);
        sum[i] += e;
        narrow(pack.x[i], e);
      }
      *at = pack;
    }
  }
  if (!partial) return;
  for (int i = 0; i < count; ++i)
    of_warp[(threadIdx.y * count + i) * warp_size + threadIdx.x] = sum[i];
  __syncthreads();
  if (threadIdx.y > 0 || !patch.inside) return;
  for (int i = 0; i < count; ++i) {
    for (int w = 1; w < warps; ++w) sum[i] += of_warp[(w * count + i) * warp_size + threadIdx.x];
    partial[blockIdx.x * B + patch.row + i] = sum[i];
  }
}

// Raises shift to the largest of the slabs' maxima, and brings total to the new shift.
template <typename S>
__global__ void shift_kernel(S* shift, double* total, S* rescale, const S* partial,
                             std::int64_t slabs, std::int64_t B) {
  EMS_SHARED(S, of_warp, join_warps * warp_size);
  const std::int64_t b = static_cast<std::int64_t>(blockIdx.x) * warp_size + threadIdx.x;
  S largest = -INFINITY;
  if (b < B) {
    EMS_UNROLL
    for (std::int64_t s = threadIdx.y; s < slabs; s += join_warps) {
      const S x = partial[s * B + b];
      largest = x > largest ? x : largest;
    }
  }
  of_warp[threadIdx.y * warp_size + threadIdx.x] = largest;
  __syncthreads();
  if (threadIdx.y > 0 || b >= B) return;
  const S before = shift[b];
  largest = before;
  for (int w = 0; w < join_warps; ++w) {
    const S other = of_warp[w * warp_size + threadIdx.x];
    largest = other > largest ? other : largest;
  }
  // Equal also while both are -inf, where their difference would be NaN.
  const S factor = largest == before ? S(1) : exp(before - largest);
  rescale[b] = factor;
  shift[b] = largest;
  total[b] *= factor;
}

// total += the slabs' sums.
template <typename S>
__global__ void total_kernel(double* total, const S* partial, std::int64_t slabs, std::int64_t B) {
  EMS_SHARED(double, of_warp, join_warps * warp_size);
  const std::int64_t b = static_cast<std::int64_t>(blockIdx.x) * warp_size + threadIdx.x;
  double sum = 0;
  if (b < B) {
    EMS_UNROLL
    for (std::int64_t s = threadIdx.y; s < slabs; s += join_warps) sum += partial[s * B + b];
  }
  of_warp[threadIdx.y * warp_size + threadIdx.x] = sum;
  __syncthreads();
  if (threadIdx.y > 0 || b >= B) return;
  for (int w = 1; w < join_warps; ++w) sum += of_warp[w * warp_size + threadIdx.x];
  total[b] += sum;
}

constexpr unsigned flat_block = 256;

template <typename S>
__global__ void accumulate_kernel(S* out, const S* in, const S* scale, bool add,
                                  std::int64_t size) {
  const std::int64_t i = static_cast<std::int64_t>(blockIdx.x) * flat_block + threadIdx.x;
  if (i >= size) return;
  const S x = scale ? in[i] * *scale : in[i];
  out[i] = add ? out[i] + x : x;
}

// A block per row of the batch and `flat_block` columns.
template <typename T>
__global__ void gather_kernel(sum_t<T>* out, double* mass, double* entropy,
                              const std::int64_t* indptr, const std::int64_t* indices,
                              const float* q, const T* weight, std::int64_t D, std::int64_t V,
                              std::int64_t K) {
  using S = sum_t<T>;
  const std::int64_t b = blockIdx.x;
  const std::int64_t d = static_cast<std::int64_t>(blockIdx.y) * flat_block + threadIdx.x;
  const std::int64_t begin = indptr[b] > 0 ? indptr[b] : 0;
  const std::int64_t end = indptr[b + 1] < K ? indptr[b + 1] : K;
  if (d < D) {
    S sum = 0;
    EMS_UNROLL
    for (std::int64_t k = begin; k < end; ++k) {
      const std::int64_t word = indices[k];
      const bool valid = word >= 0 && word < V;  // selected, not branched on: loads overlap
      const S x = widen(weight[(valid ? word : 0) * D + d]);
      sum += valid ? static_cast<S>(q[k]) * x : S(0);
    }
    out[b * D + d] = sum;
  }
  if (blockIdx.y > 0 || threadIdx.x >= warp_size) return;
  double total = 0, information = 0;
  for (std::int64_t k = begin + threadIdx.x; k < end; k += warp_size) {
    const double p = indices[k] >= 0 && indices[k] < V ? q[k] : NAN;
    total += p;
    information += p > 0 ? p * log(p) : 0;
  }
  total = warp_sum(total);
  information = warp_sum(information);
  if (threadIdx.x > 0) return;
  mass[b] = total;
  entropy[b] = information;
}

// A block per entry and `flat_block` columns; the first of a word's entries adds all of them up.
template <typename S>
__global__ void scatter_kernel(S* out, const std::int64_t* words, const std::int64_t* ends,
                               const std::int64_t* rows, const S* values, const S* scale,
                               const S* hidden, std::int64_t first_word, std::int64_t n,
                               std::int64_t B, std::int64_t D, std::int64_t K) {
  const std::int64_t first = blockIdx.x, word = words[first];
  if (first > 0 && words[first - 1] == word) return;
  if (word < first_word || word >= first_word + n) return;
  const std::int64_t d = static_cast<std::int64_t>(blockIdx.y) * flat_block + threadIdx.x;
  if (d >= D) return;
  const std::int64_t end = ends[first] < K ? ends[first] : K;
  S sum = 0;
  EMS_UNROLL
  for (std::int64_t k = first; k < end; ++k) {
    const bool valid = rows[k] >= 0 && rows[k] < B;
    const std::int64_t row = valid ? rows[k] : 0;
    const S x = values[k] * scale[row] * hidden[row * D + d];
    sum += valid ? x : S(0);
  }
  out[(word - first_word) * D + d] += sum;
}

// Calls f with a value of the dtype's type.
template <typename F>
void with_dtype(Dtype dtype, F f) {
  switch (dtype) {
    case Dtype::float32: return f(float{});
    case Dtype::float64: return f(double{});
    case Dtype::bfloat16: return f(__nv_bfloat16{});
    case Dtype::float16: return f(__half{});
  }
}

// Two rows to a lane where every word's logits begin at an even place.
template <typename T>
bool in_pairs(const void* z, std::int64_t B) {
  return B % 2 == 0 && reinterpret_cast<std::uintptr_t>(z) % (2 * sizeof(T)) == 0;
}

const dim3 patch_block(warp_size, warps), join_block(warp_size, join_warps);

}  // namespace

std::int64_t softmax_workspace_size(std::int64_t n, std::int64_t B) {
  return blocks_for(n, slab) * B;
}

void softmax(void* z, void* shift, double* total, void* rescale, void* workspace, Dtype dtype,
             std::int64_t n, std::int64_t B, Queue queue) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    using S = sum_t<T>;
    const bool pairs = in_pairs<T>(z, B);
    const dim3 grid(blocks_for(n, slab), blocks_for(B, warp_size * (pairs ? 2 : 1)));
    const unsigned joins = blocks_for(B, warp_size);
    S* const partial = static_cast<S*>(workspace);
    launch(pairs ? max_kernel<T, 2> : max_kernel<T, 1>, grid, patch_block, queue, partial,
           static_cast<const T*>(z), n, B);
    launch(shift_kernel<S>, joins, join_block, queue, static_cast<S*>(shift), total,
           static_cast<S*>(rescale), partial, grid.x, B);
    launch(pairs ? exp_kernel<T, 2> : exp_kernel<T, 1>, grid, patch_block, queue, partial,
           static_cast<T*>(z), static_cast<const S*>(shift), n, B);
    launch(total_kernel<S>, joins, join_block, queue, total, partial, grid.x, B);
  });
}

void probabilities(void* z, const void* logsumexp, Dtype dtype, std::int64_t n, std::int64_t B,
                   Queue queue) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    using S = sum_t<T>;
    const bool pairs = in_pairs<T>(z, B);
    const dim3 grid(blocks_for(n, slab), blocks_for(B, warp_size * (pairs ? 2 : 1)));
    launch(pairs ? exp_kernel<T, 2> : exp_kernel<T, 1>, grid, patch_block, queue, nullptr,
           static_cast<T*>(z), static_cast<const S*>(logsumexp), n, B);
  });
}

void accumulate(void* out, const void* in, const void* scale, bool wide, bool add,
                std::int64_t size, Queue queue) {
  const auto run = [&](auto zero) {
    using S = decltype(zero);
    launch(accumulate_kernel<S>, blocks_for(size, flat_block), flat_block, queue,
           static_cast<S*>(out), static_cast<const S*>(in), static_cast<const S*>(scale), add,
           size);
  };
  wide ? run(0.0) : run(0.0f);
}

void gather(void* out, double* mass, double* entropy, const std::int64_t* indptr,
            const std::int64_t* indices, const float* q, const void* weight, Dtype dtype,
            std::int64_t B, std::int64_t D, std::int64_t V, std::int64_t K, Queue queue) {
  with_dtype(dtype, [&](auto zero) {
    using T = decltype(zero);
    const dim3 grid(blocks_for(B, 1), blocks_for(D, flat_block));
    launch(gather_kernel<T>, grid, flat_block, queue, static_cast<sum_t<T>*>(out), mass, entropy,
           indptr, indices, q, static_cast<const T*>(weight), D, V, K);
  });
}

void scatter(void* out, const std::int64_t* words, const std::int64_t* ends,
             const std::int64_t* rows, const void* values, const void* scale, const void* hidden,
             bool wide, std::int64_t first_word, std::int64_t n, std::int64_t B, std::int64_t D,
             std::int64_t K, Queue queue) {
  const auto run = [&](auto zero) {
    using S = decltype(zero);
    const dim3 grid(blocks_for(K, 1), blocks_for(D, flat_block));
    launch(scatter_kernel<S>, grid, flat_block, queue, static_cast<S*>(out), words, ends,
           rows, static_cast<const S*>(values), static_cast<const S*>(scale),
           static_cast<const S*>(hidden), first_word, n, B, D, K);
  };
  wide ? run(0.0) : run(0.0f);
}

}  // namespace cuda
}  // namespace ems
