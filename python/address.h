// How tensors arrive in a binding: as addresses, taken from anything that has `data_ptr()`.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <stdexcept>
#include <string>

// 0: None was given.
struct Address {
  std::uintptr_t value;
};

template <>
struct pybind11::detail::type_caster<Address> {
  PYBIND11_TYPE_CASTER(Address, const_name("Tensor | int | None"));
  // On every call of every kernel: so without the conveniences that cost a microsecond.
  bool load(handle given, bool) {
    static PyObject* const data_ptr = PyUnicode_InternFromString("data_ptr");
    if (given.is_none()) return true;
    if (PyLong_Check(given.ptr())) {
      value.value = PyLong_AsSize_t(given.ptr());
    } else {
      const auto found =
          reinterpret_steal<object>(PyObject_CallMethodNoArgs(given.ptr(), data_ptr));
      if (found) value.value = PyLong_AsSize_t(found.ptr());
    }
    if (!PyErr_Occurred()) return true;
    PyErr_Clear();
    return false;
  }
};

template <typename T>
T* at(Address address) {
  return reinterpret_cast<T*>(address.value);
}

// The part for columns of an array [B + M], rows and then columns; null with it.
template <typename T>
T* columns_of(Address address, std::int64_t B) {
  return address.value ? at<T>(address) + B : nullptr;
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
