// How tensors arrive in a binding: as addresses that ems_fast/ops took from them.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

// 0: not given.
using Address = std::uintptr_t;

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

// The part for columns of an array [B + M], rows and then columns; null with it.
template <typename T>
T* columns_of(Address address, std::int64_t B) {
  return address ? at<T>(address) + B : nullptr;
}

// A number that chooses one of `count` kernels; any other is a ValueError in Python.
inline int checked(const char* name, int value, int count) {
  if (value < 0 || value >= count)
    throw std::invalid_argument(std::string(name) + ": got " + std::to_string(value) +
                                ", expected 0 to " + std::to_string(count - 1));
  return value;
}

// What `run` gives for a zero of the type that a dtype's number stands for: 0 float, 1 double.
template <typename Run>
auto with_real(int dtype, Run run) {
  return checked("dtype", dtype, 2) ? run(0.0) : run(0.0f);
}
