# The CUDA kernels, ems_fast._cuda: compiled when nvcc is there. They need neither a GPU nor torch,
# and link the runtime statically, so that the wheel runs beside any torch whose driver is new enough.
#
#   EMS_CUDA=AUTO  (default) built if nvcc is found and works
#   EMS_CUDA=ON    built; without nvcc the configuration fails
#   EMS_CUDA=OFF   not built
#
# EMS_CUDA_ARCHITECTURES chooses the GPUs, in the words of CMAKE_CUDA_ARCHITECTURES, which CMake
# itself sets to one of them.
#
# Sets cuda_build to "built" or to the reason why not, which ems_fast.backends() repeats.
set(EMS_CUDA AUTO CACHE STRING "Compile the CUDA kernels: AUTO, ON or OFF")
set_property(CACHE EMS_CUDA PROPERTY STRINGS AUTO ON OFF)
set(EMS_CUDA_ARCHITECTURES "" CACHE STRING "GPUs to compile for; empty: all that nvcc knows well")
if(NOT EMS_CUDA MATCHES "^(AUTO|ON|OFF)$")
  message(FATAL_ERROR "EMS_CUDA: got '${EMS_CUDA}', expected AUTO, ON or OFF.")
endif()

if(EMS_CUDA STREQUAL "OFF")
  set(cuda_build "this build was configured with EMS_CUDA=OFF")
  return()
endif()
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  set(cuda_build "no working nvcc was found when this build was configured")
  if(EMS_CUDA STREQUAL "ON")
    message(FATAL_ERROR "EMS_CUDA=ON compiles CUDA kernels and found no working nvcc: install the "
                        "CUDA toolkit and put nvcc on PATH (or name it in CUDACXX), or pass "
                        "EMS_CUDA=AUTO.")
  endif()
  message(STATUS "CUDA kernels: not built, no working nvcc found")
  return()
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)

# One binary per generation, and PTX of the newest for those to come. CUDA 13 compiles for 7.5 and
# newer only; 10.0 and 12.0 came with CUDA 12.8.
set(architectures_chosen ${EMS_CUDA_ARCHITECTURES})
if(NOT architectures_chosen)
  set(architectures_chosen 75-real 80-real 86-real 89-real)
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 13)
    list(PREPEND architectures_chosen 70-real)
  endif()
  if(CMAKE_CUDA_COMPILER_VERSION VERSION_LESS 12.8)
    list(APPEND architectures_chosen 90)
  else()
    list(APPEND architectures_chosen 90-real 100-real 120)
  endif()
endif()
# What ems_fast/ops/native.py reads: "90" is a binary, "90+" is or has PTX, for newer GPUs too.
set(architecture_names ${architectures_chosen})
list(TRANSFORM architecture_names REPLACE "^([0-9]+[a-z]?)(-virtual)?$" "\\1+")
list(TRANSFORM architecture_names REPLACE "-real" "")
list(JOIN architecture_names " " architecture_names)
message(STATUS "CUDA kernels: nvcc ${CMAKE_CUDA_COMPILER_VERSION} for ${architecture_names}")

file(GLOB cuda_sources CONFIGURE_DEPENDS csrc/*_cuda.cu)
add_library(ems_cuda STATIC ${cuda_sources})
set_target_properties(ems_cuda PROPERTIES CUDA_STANDARD 17 CUDA_STANDARD_REQUIRED ON
                                          CUDA_VISIBILITY_PRESET hidden
                                          CUDA_ARCHITECTURES "${architectures_chosen}")
target_include_directories(ems_cuda PUBLIC csrc)
# The driver unpacks the binaries when it loads them.
target_compile_options(ems_cuda PRIVATE $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall,-Wextra
                                        -Xfatbin=-compress-all>)
pybind11_add_module(_cuda NO_EXTRAS python/cuda.cpp)
target_compile_definitions(_cuda PRIVATE EMS_CUDA_ARCHITECTURES="${architecture_names}")
target_link_libraries(_cuda PRIVATE ems_cuda CUDA::cudart_static)
install(TARGETS _cuda LIBRARY DESTINATION ems_fast)
set(cuda_build "built")
