// Kernels for the tests of csrc/shim/cuda.h itself: right ones, and ones with the mistakes that it
// has to show. Every function returns "" or what went wrong.
#include <cstdint>
#include <cstdio>
#include <exception>

#include "device.h"

namespace {

constexpr int threads = 128;

enum Mistake : int { none, no_barrier, no_second_barrier, past_the_end, one_too_few };

// sums[b] = Σ x[b·threads … (b + 1)·threads), by halving.
__global__ void block_sum(double* sums, const double* x, int mistake) {
  EMS_SHARED(double, shared, threads);
  const int t = static_cast<int>(threadIdx.x);
  const std::int64_t at = static_cast<std::int64_t>(blockIdx.x) * threads + t;
  if (mistake == past_the_end)
    shared[t + 1] = x[at];
  else if (mistake != one_too_few || t + 1 < threads)
    shared[t] = x[at];
  if (mistake != no_barrier) __syncthreads();
  for (int half = threads / 2; half > 0; half /= 2) {
    if (t < half) shared[t] += shared[t + half];
    if (mistake != no_barrier && mistake != no_second_barrier) __syncthreads();
  }
  if (t == 0) sums[blockIdx.x] = shared[0];
}

// Blocks that read what another one wrote: a race between blocks.
__global__ void next_block(double* x) {
  const unsigned b = blockIdx.x;
  x[b] = b == 0 ? 1 : x[b - 1] + 1;
}

__global__ void half_a_barrier() {
  if (threadIdx.x < 64) __syncthreads();
}

__global__ void left_early(double* out) {
  if (threadIdx.x == 5) return;
  *out = ems::warp_sum(1.0);
}

__global__ void wrong_mask(double* out) { *out = __shfl_sync(0x0000ffffu, 1.0, 0); }

// out [6, 32]: what each lane got.
__global__ void warp_functions(std::int64_t* out) {
  const unsigned all = 0xffffffffu;
  const int lane = static_cast<int>(threadIdx.x);
  const std::int64_t value = lane * 10;
  out[lane] = __shfl_xor_sync(all, value, 5);
  out[32 + lane] = __shfl_down_sync(all, value, 3u);
  out[64 + lane] = __shfl_sync(all, value, 7);
  out[96 + lane] = __ballot_sync(all, lane % 3 == 0);
  out[128 + lane] = __any_sync(all, lane == 4) + 2 * __all_sync(all, lane == 4);
  __syncwarp();
  out[160 + lane] = ems::warp_max(lane == 9 ? 1e9 : -1.0 * lane) == 1e9;
}

__global__ void count(int* total) { atomicAdd(total, 1); }

template <typename T>
__global__ void round_trip(float* x, int size) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i >= size) return;
  T narrow;
  ems::narrow(narrow, x[i]);
  x[i] = ems::widen(narrow);
}

template <typename... Parameters, typename... Arguments>
const char* run(void (*kernel)(Parameters...), dim3 grid, dim3 block, Arguments... arguments) {
  static char message[200];
  try {
    ems::launch(kernel, grid, block, ems::Queue{}, arguments...);
    return "";
  } catch (const std::exception& error) {
    std::snprintf(message, sizeof message, "%s", error.what());
    return message;
  }
}

}  // namespace

extern "C" {
void set_seed(std::uint64_t seed) { ems::shim::Machine::instance().seed(seed); }
const char* run_block_sum(double* sums, const double* x, int blocks, int mistake) {
  return run(block_sum, blocks, threads, sums, x, mistake);
}
const char* run_next_block(double* x, int blocks) { return run(next_block, blocks, 1, x); }
const char* run_half_a_barrier() { return run(half_a_barrier, 1, 128); }
const char* run_left_early(double* out) { return run(left_early, 1, 32, out); }
const char* run_wrong_mask(double* out) { return run(wrong_mask, 1, 32, out); }
const char* run_large_block(int* total) { return run(count, 1, dim3(32, 33), total); }
const char* run_warp_functions(std::int64_t* out) { return run(warp_functions, 1, 32, out); }
const char* run_count(int* total, int x, int y) { return run(count, dim3(x, y), 65, total); }
const char* run_round_trip(float* x, int size, bool half) {
  const unsigned blocks = ems::blocks_for(size, 64);
  return half ? run(round_trip<__half>, blocks, 64, x, size)
              : run(round_trip<__nv_bfloat16>, blocks, 64, x, size);
}
}
