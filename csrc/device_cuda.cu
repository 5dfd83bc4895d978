#include "device_count.h"

#include "device.h"

namespace ems {

int device_count(const char** problem) {
  *problem = "";
#if defined(__CUDACC__)
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess) return count;
  *problem = cudaGetErrorString(status);
  return 0;
#else
  return 1;  // the shim
#endif
}

}  // namespace ems
