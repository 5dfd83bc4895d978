// Where a CUDA kernel runs; readable without CUDA's headers.
#pragma once

struct CUstream_st;  // what a cudaStream_t points to

namespace ems {

struct Queue {
  int device;
  CUstream_st* stream;  // null: the device's default stream
};

}  // namespace ems
