#include "isa.h"

#include <atomic>
#include <stdexcept>
#include <string>

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

namespace ems {
namespace {

#if defined(__x86_64__)
// What cpuid tells, not __builtin_cpu_supports: its tables are not in every compiler's libraries.
struct Processor {
  bool avx2 = false, avx512 = false, bf16 = false;

  Processor() {
    unsigned a, b, c, d, basic, more, unused;
    if (!__get_cpuid(1, &a, &b, &basic, &d)) return;
    if (!__get_cpuid_count(7, 0, &a, &more, &c, &d)) return;
    const auto bit = [](unsigned word, int place) { return (word >> place & 1) != 0; };
    if (!bit(basic, 27)) return;  // the system does not say which registers it saves
    unsigned saved;
    __asm__("xgetbv" : "=a"(saved), "=d"(unused) : "c"(0));
    const bool f16c_fma = bit(basic, 29) && bit(basic, 12);
    avx2 = (saved & 0x06) == 0x06 && bit(more, 5) && f16c_fma;
    avx512 = avx2 && (saved & 0xe0) == 0xe0 && bit(more, 16) && bit(more, 17) && bit(more, 30) &&
             bit(more, 31);  // F, DQ, BW, VL
    bf16 = __get_cpuid_count(7, 1, &a, &b, &c, &d) && bit(a, 5);
  }
};

const Processor& processor() {
  static const Processor found;
  return found;
}
#endif

Isa best_isa() {
  if (isa_available(Isa::avx512)) return Isa::avx512;
  if (isa_available(Isa::avx2)) return Isa::avx2;
  return Isa::baseline;
}

std::atomic<Isa>& active() {
  static std::atomic<Isa> isa{best_isa()};
  return isa;
}

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::avx512: return "avx512";
    case Isa::avx2: return "avx2";
    default: return "baseline";
  }
}

bool isa_compiled(Isa isa) {
#if defined(__x86_64__)
  (void)isa;
  return true;
#else
  return isa == Isa::baseline;
#endif
}

bool isa_available(Isa isa) {
  if (isa == Isa::baseline) return true;
#if defined(__x86_64__)
  return isa == Isa::avx2 ? processor().avx2 : processor().avx512;
#else
  return false;
#endif
}

Isa active_isa() { return active().load(std::memory_order_relaxed); }

void set_active_isa(Isa isa) {
  if (!isa_available(isa))
    throw std::invalid_argument(std::string("isa: ") + isa_name(isa) +
                                " is not available on this processor");
  active().store(isa, std::memory_order_relaxed);
}

bool has_fast_bfloat16() {
#if defined(__x86_64__)
  // Every processor with AMX (bfloat16 tiles) has AVX-512 BF16 as well.
  return processor().avx512 && processor().bf16;
#elif defined(__aarch64__) && defined(__linux__)
  constexpr unsigned long has_bf16 = 1ul << 14;  // HWCAP2_BF16
  return (getauxval(AT_HWCAP2) & has_bf16) != 0;
#else
  return false;
#endif
}

}  // namespace ems
