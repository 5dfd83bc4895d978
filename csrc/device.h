// What a kernel file (*_cuda.cu) needs of CUDA.
//
// nvcc compiles such a file for GPUs. g++ compiles the same file against csrc/shim/cuda.h, which
// executes it on the CPU: so its indexing, reductions and barriers are tested where no GPU is.
// Kernels are launched through `launch` and declare shared memory through EMS_SHARED; everything
// else is plain CUDA.
#pragma once

#include <cstdint>

#include "queue.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#define EMS_SHARED(type, name, count) __shared__ type name[count]
#define EMS_UNROLL _Pragma("unroll 8")

namespace ems {

inline void check_cuda(cudaError_t status) {
  if (status != cudaSuccess)
    throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(status));
}

// Runs kernel(args...) on the queue without waiting for it. A grid without blocks is no launch.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, Queue queue,
            Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0) return;
  // The runtime is linked statically and so does not know which device torch has made current.
  check_cuda(cudaSetDevice(queue.device));
  kernel<<<grid, block, 0, queue.stream>>>(static_cast<Parameters>(arguments)...);
  check_cuda(cudaGetLastError());
}

}  // namespace ems
#else
#include "shim/cuda.h"
#endif

namespace ems {

constexpr unsigned warp_size = 32;

__device__ inline float widen(float x) { return x; }
__device__ inline double widen(double x) { return x; }
__device__ inline float widen(__nv_bfloat16 x) { return __bfloat162float(x); }
__device__ inline float widen(__half x) { return __half2float(x); }

__device__ inline void narrow(float& out, float x) { out = x; }
__device__ inline void narrow(double& out, double x) { out = x; }
__device__ inline void narrow(__nv_bfloat16& out, float x) { out = __float2bfloat16(x); }
__device__ inline void narrow(__half& out, float x) { out = __float2half(x); }

// The sum over the warp's lanes, in every lane; the order of additions is fixed.
template <typename T>
__device__ T warp_sum(T x) {
  for (int distance = 16; distance > 0; distance /= 2)
    x += __shfl_xor_sync(0xffffffffu, x, distance);
  return x;
}

// The largest value of the warp's lanes, NaN left out, in every lane.
template <typename T>
__device__ T warp_max(T x) {
  for (int distance = 16; distance > 0; distance /= 2) {
    const T other = __shfl_xor_sync(0xffffffffu, x, distance);
    x = other > x ? other : x;
  }
  return x;
}

inline unsigned blocks_for(std::int64_t size, std::int64_t per_block) {
  return static_cast<unsigned>((size + per_block - 1) / per_block);
}

}  // namespace ems
