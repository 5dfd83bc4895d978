#pragma once

namespace ems {

// Devices that these kernels could run on; if there are none, `problem` says what CUDA says.
int device_count(const char** problem);

}  // namespace ems
