// How tensors arrive in a binding: as addresses that ems_fast/ops took from them.
#pragma once

#include <cstdint>

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
