#!/bin/sh -e
# run.sh BIN FOLDER SUITES...: what `make sanitize` does. BIN holds the Python of an environment with
# the test tools, FOLDER is for what is built. Needs gcc; clang, its runtime and libomp
# (Debian: clang libclang-rt-dev libomp-dev); valgrind.
bin=$1 folder=$2
shift 2
export PATH="$bin:$PATH"
"$bin/python" -m pip install --quiet cmake ninja 'pybind11>=2.13' 'cython>=3.0.11' 'cython-cmake>=0.2' \
  'scikit-build-core>=0.10'

echo "== addresses and undefined behaviour: $*"
rm -rf "$folder/site"
"$bin/python" -m pip install --quiet --no-deps --no-build-isolation --target "$folder/site" \
  -C "build-dir=$folder/build" -C cmake.define.EMS_CUDA=OFF \
  -C cmake.define.EMS_SANITIZE=address,undefined .
# Leaks are left out: Python frees much of what it holds never.
LD_PRELOAD="$(gcc -print-file-name=libasan.so) $(gcc -print-file-name=libubsan.so)" \
  ASAN_OPTIONS=detect_leaks=0 UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH="$folder/site" \
  "$bin/python" -P -m pytest -q -k "not OnShim and not cuda" "$@"

build() { # build FOLDER OPTIONS...: tests/sanitize/kernels.cpp and the kernels
  target=$1
  shift
  cmake -S . -B "$target" -G Ninja "$@" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DEMS_CUDA=OFF \
    "-DPython_EXECUTABLE=$bin/python" "-Dpybind11_DIR=$("$bin/python" -m pybind11 --cmakedir)" \
    "-DCMAKE_MODULE_PATH=$("$bin/python" -c 'import cython_cmake as c; print(c.__path__[0])')/cmake" \
    > "$target.log" 2>&1 || { cat "$target.log"; exit 1; }
  cmake --build "$target" --target run_kernels >> "$target.log" 2>&1 \
    || { tail -40 "$target.log"; exit 1; }
}

echo "== threads: every kernel on four of them"
build "$folder/threads" -DCMAKE_CXX_COMPILER=clang++ -DEMS_SANITIZE=thread
# libomp is not instrumented: its own accesses are left out, and libarcher tells what it
# synchronises. A race in a parallel loop has to be found, or there was nothing to see with.
library=$(dirname "$(ldd "$folder/threads/run_kernels" | awk '/libomp/ { print $3 }')")
export OMP_TOOL_LIBRARIES="$library/libarcher.so"
export TSAN_OPTIONS=ignore_noninstrumented_modules=1
if "$folder/threads/run_kernels" race > /dev/null 2>&1; then
  echo "the thread sanitizer does not see a race that is there" >&2
  exit 1
fi
"$folder/threads/run_kernels" 4

echo "== valgrind: every kernel up to AVX2, which is what it knows"
build "$folder/plain"
valgrind --quiet --error-exitcode=1 "$folder/plain/run_kernels" 2
