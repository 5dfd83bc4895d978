// Executes CUDA kernels on the CPU, for tests: the part of CUDA's language that *_cuda.cu use.
//
// A thread of a kernel is a fiber with a stack of its own. Between two barriers fibers run one at a
// time, in an order drawn from a seed, as blocks do: so a kernel that relies on an order, because
// it lacks a barrier, gives wrong or varying results. Shared memory starts as NaN and ends in a
// fence. A write to the fence, and a barrier or shuffle that not all of its threads reach, end the
// launch with an exception.
//
// What it cannot show: memory ordering, timing, registers, bank conflicts, races between threads
// whose every order gives the same result.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#include "../queue.h"
#include "numbers.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define EMS_UNROLL
#define EMS_SHARED(type, name, count)                                                      \
  static const char name##_key = 0;                                                        \
  type* const name = static_cast<type*>(                                                   \
      ems::shim::Machine::instance().shared(&name##_key, sizeof(type) * (count)))

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

inline dim3 threadIdx, blockIdx, blockDim, gridDim;  // of the fiber that runs now

namespace ems {
namespace shim {

constexpr std::size_t stack_bytes = 64 << 10;
constexpr unsigned lanes_per_warp = 32;
#if defined(__SANITIZE_ADDRESS__)
constexpr std::size_t fence_bytes = 0;  // the sanitizer has its own
#else
constexpr std::size_t fence_bytes = 64;
#endif
constexpr unsigned char fence_byte = 0xA5, fresh_byte = 0xFF;  // 0xFF…: a NaN of any type

// Runs one launch at a time, whatever number of host threads ask for one.
class Machine {
 public:
  static Machine& instance() {
    static Machine machine;
    return machine;
  }

  // 0: blocks and threads in their natural order; otherwise shuffled, differently for every seed.
  void seed(std::uint64_t value) { seed_ = value; }

  void run(dim3 grid, dim3 block, const std::function<void()>& kernel) {
    const std::lock_guard<std::mutex> one_at_a_time(mutex_);
    if (block.x * block.y * block.z > 1024 || block.x * block.y * block.z == 0)
      throw std::runtime_error("launch: a block has 1 to 1024 threads");
    if (grid.y > 65535 || grid.z > 65535 || grid.x > 2147483647u)
      throw std::runtime_error("launch: the grid is larger than a GPU allows");
    kernel_ = &kernel;
    gridDim = grid;
    blockDim = block;
    random_ = seed_;
    const std::size_t blocks = std::size_t{grid.x} * grid.y * grid.z;
    std::vector<std::size_t> order(blocks);
    for (std::size_t i = 0; i < blocks; ++i) order[i] = i;
    shuffle(order);
    for (std::size_t i : order) {
      blockIdx = {static_cast<unsigned>(i % grid.x), static_cast<unsigned>(i / grid.x % grid.y),
                  static_cast<unsigned>(i / grid.x / grid.y)};
      run_block();
    }
  }

  // -- called by the kernel -------------------------------------------------------------------

  void* shared(const void* key, std::size_t bytes) {
    for (const Region& region : regions_)
      if (region.key == key) return region.memory.get();
    regions_.push_back({key, bytes, std::make_unique<unsigned char[]>(bytes + fence_bytes)});
    unsigned char* memory = regions_.back().memory.get();
    std::memset(memory, fresh_byte, bytes);
    std::memset(memory + bytes, fence_byte, fence_bytes);
    return memory;
  }

  void block_barrier() {
    ++waiting_at_barrier_;
    if (waiting_at_barrier_ == threads_) {
      waiting_at_barrier_ = 0;
      for (std::size_t i = 0; i < threads_; ++i) fibers_[i]->state = State::ready;
    } else {
      current_->state = State::at_barrier;
    }
    suspend();
  }

  void warp_barrier(std::uint32_t mask) {
    Warp& warp = warps_[current_->number / lanes_per_warp];
    const std::uint32_t own = 1u << (current_->number % lanes_per_warp);
    if (!(mask & own)) return fail("a lane calls a warp function whose mask leaves it out");
    if (mask & ~warp.lanes) return fail("a warp function's mask names lanes that do not exist");
    if (warp.arrived && warp.mask != mask) return fail("lanes of a warp give different masks");
    warp.mask = mask;
    warp.arrived |= own;
    current_->state = State::at_warp;
    if (warp.arrived == mask) {
      warp.arrived = 0;
      const std::size_t first = current_->number / lanes_per_warp * lanes_per_warp;
      for (unsigned lane = 0; lane < lanes_per_warp; ++lane)
        if (mask >> lane & 1) fibers_[first + lane]->state = State::ready;
    }
    suspend();
  }

  // What lane `from` passed; NaN from a lane outside of the mask.
  template <typename T>
  T exchange(std::uint32_t mask, T value, unsigned from) {
    static_assert(sizeof(T) <= 8, "a shuffle moves at most eight bytes");
    Warp& warp = warps_[current_->number / lanes_per_warp];
    std::memcpy(&warp.slots[current_->number % lanes_per_warp], &value, sizeof value);
    warp_barrier(mask);
    T result;
    std::memset(static_cast<void*>(&result), fresh_byte, sizeof result);
    if (mask >> from & 1) std::memcpy(&result, &warp.slots[from], sizeof result);
    warp_barrier(mask);  // Nobody passes the next value before all have read this one.
    return result;
  }

  unsigned lane() const { return current_->number % lanes_per_warp; }

 private:
  enum class State { ready, at_barrier, at_warp, finished };
  // Lives on from block to block, at the end of an endless loop around the kernel.
  struct Fiber {
    ucontext_t begin;
    jmp_buf at;  // where it was suspended: switching by longjmp spares two system calls
    bool begun = false;
    dim3 index;
    std::size_t number = 0;
    State state = State::ready;
    std::unique_ptr<unsigned char[]> stack;
#if defined(__SANITIZE_ADDRESS__)
    void* fake_stack = nullptr;
#endif
  };
  struct Warp {
    std::uint32_t lanes = 0, mask = 0, arrived = 0;
    std::uint64_t slots[lanes_per_warp];
  };
  struct Region {
    const void* key;
    std::size_t bytes;
    std::unique_ptr<unsigned char[]> memory;
  };

  template <typename T>
  void shuffle(std::vector<T>& order) {
    if (!seed_) return;
    for (std::size_t i = order.size(); i > 1; --i) {
      random_ = random_ * 6364136223846793005u + 1442695040888963407u;
      std::swap(order[i - 1], order[(random_ >> 33) % i]);
    }
  }

  void run_block() {
    threads_ = std::size_t{blockDim.x} * blockDim.y * blockDim.z;
    regions_.clear();
    error_.clear();
    waiting_at_barrier_ = 0;
    warps_.assign((threads_ + lanes_per_warp - 1) / lanes_per_warp, Warp{});
    for (std::size_t i = 0; i < threads_; ++i) {
      if (fibers_.size() == i) fibers_.push_back(std::make_unique<Fiber>());
      Fiber& fiber = *fibers_[i];
      fiber.number = i;
      fiber.state = State::ready;
      fiber.index = {static_cast<unsigned>(i % blockDim.x),
                     static_cast<unsigned>(i / blockDim.x % blockDim.y),
                     static_cast<unsigned>(i / blockDim.x / blockDim.y)};
      warps_[i / lanes_per_warp].lanes |= 1u << (i % lanes_per_warp);
    }
    try {
      run_threads();
    } catch (...) {
      fibers_.clear();  // They are somewhere inside of the kernel, for ever.
      throw;
    }
    for (const Region& region : regions_)
      for (std::size_t i = 0; i < fence_bytes; ++i)
        if (region.memory[region.bytes + i] != fence_byte)
          throw std::runtime_error("a write past the end of shared memory");
  }

  void run_threads() {
    std::vector<Fiber*> ready;
    for (std::size_t finished = 0; finished < threads_;) {
      ready.clear();
      for (std::size_t i = 0; i < threads_; ++i)
        if (fibers_[i]->state == State::ready) ready.push_back(fibers_[i].get());
      if (ready.empty()) throw std::runtime_error(describe_deadlock(finished));
      shuffle(ready);
      for (Fiber* fiber : ready) {
        resume(fiber);
        if (!error_.empty()) throw std::runtime_error(error_);
        finished += fiber->state == State::finished;
      }
    }
  }

  static void enter() {
    Machine& machine = instance();
    machine.arrived_on_fiber(nullptr);
    for (;;) {
      (*machine.kernel_)();
      machine.current_->state = State::finished;
      machine.suspend();
    }
  }

  // Only pointers live across setjmp: nothing that longjmp could leave undefined.
  void resume(Fiber* fiber) {
    current_ = fiber;
    threadIdx = fiber->index;
    if (!fiber->stack) fiber->stack = std::make_unique<unsigned char[]>(stack_bytes);
    leave_main(fiber);
    if (_setjmp(main_) == 0) {
      if (fiber->begun) _longjmp(fiber->at, 1);
      fiber->begun = true;
      getcontext(&fiber->begin);
      fiber->begin.uc_stack.ss_sp = fiber->stack.get();
      fiber->begin.uc_stack.ss_size = stack_bytes;
      fiber->begin.uc_link = nullptr;
      makecontext(&fiber->begin, &Machine::enter, 0);
      setcontext(&fiber->begin);
    }
    arrived_on_main();
  }

  void suspend() {
    leave_fiber();
    if (_setjmp(current_->at) == 0) _longjmp(main_, 1);
    arrived_on_fiber(current_);
  }

  void fail(const char* what) {  // Exceptions do not cross fibers: the scheduler throws it.
    error_ = what;
    suspend();
  }

  std::string describe_deadlock(std::size_t finished) const {
    std::size_t at_warp = 0;
    for (std::size_t i = 0; i < threads_; ++i) at_warp += fibers_[i]->state == State::at_warp;
    return "threads wait for ever: " + std::to_string(waiting_at_barrier_) +
           " at __syncthreads, " + std::to_string(at_warp) + " at a warp function, " +
           std::to_string(finished) + " have left the kernel";
  }

  std::mutex mutex_;
  std::uint64_t seed_ = 0, random_ = 0;
  const std::function<void()>* kernel_ = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::size_t threads_ = 0;  // of a block; there may be more fibers, from larger blocks
  std::vector<Warp> warps_;
  std::vector<Region> regions_;
  std::size_t waiting_at_barrier_ = 0;
  std::string error_;
  Fiber* current_ = nullptr;
  jmp_buf main_;

  // The address sanitizer wants to know about every change of stacks.
#if defined(__SANITIZE_ADDRESS__)
  void leave_main(Fiber* fiber) {
    __sanitizer_start_switch_fiber(&main_fake_stack_, fiber->stack.get(), stack_bytes);
  }
  void arrived_on_main() { __sanitizer_finish_switch_fiber(main_fake_stack_, nullptr, nullptr); }
  void leave_fiber() {
    __sanitizer_start_switch_fiber(&current_->fake_stack, main_stack_, main_stack_bytes_);
  }
  void arrived_on_fiber(Fiber* fiber) {
    __sanitizer_finish_switch_fiber(fiber ? fiber->fake_stack : nullptr, &main_stack_,
                                    &main_stack_bytes_);
  }
  void* main_fake_stack_ = nullptr;
  const void* main_stack_ = nullptr;
  std::size_t main_stack_bytes_ = 0;
#else
  void leave_main(Fiber*) {}
  void arrived_on_main() {}
  void leave_fiber() {}
  void arrived_on_fiber(Fiber*) {}
#endif
};

}  // namespace shim

template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, Queue, Arguments... arguments) {
  if (grid.x == 0 || grid.y == 0) return;
  shim::Machine::instance().run(grid, block,
                                [&] { kernel(static_cast<Parameters>(arguments)...); });
}

}  // namespace ems

inline void __syncthreads() { ems::shim::Machine::instance().block_barrier(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  ems::shim::Machine::instance().warp_barrier(mask);
}

// Width is the whole warp, as in the kernels.
template <typename T>
T __shfl_sync(unsigned mask, T value, int from) {
  return ems::shim::Machine::instance().exchange(mask, value, static_cast<unsigned>(from) % 32);
}
template <typename T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask) {
  auto& machine = ems::shim::Machine::instance();
  return machine.exchange(mask, value, machine.lane() ^ static_cast<unsigned>(lane_mask));
}
template <typename T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta) {
  auto& machine = ems::shim::Machine::instance();
  const unsigned from = machine.lane() + delta;
  return machine.exchange(mask, value, from < 32 ? from : machine.lane());
}

inline unsigned __ballot_sync(unsigned mask, int predicate) {
  unsigned votes = 0;
  for (int lane = 0; lane < 32; ++lane)
    if (mask >> lane & 1) votes |= (__shfl_sync(mask, predicate, lane) != 0 ? 1u : 0u) << lane;
  return votes;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) {
  return __ballot_sync(mask, predicate) == mask;
}

// Fibers give way at barriers only, so a plain addition is atomic.
template <typename T>
T atomicAdd(T* address, T value) {
  const T before = *address;
  *address += value;
  return before;
}

using std::exp;
using std::log;
using std::sqrt;
