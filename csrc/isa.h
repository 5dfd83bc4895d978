// Instruction sets: which are compiled in, which this processor has, which one is active.
//
// A file named *_cpu.cpp is compiled once per instruction set with EMS_ISA defined to its name and
// exports one table of function pointers in namespace ems::EMS_ISA. Everything else in such a file
// has internal linkage and it includes no standard container: a shared inline function compiled
// for AVX-512 must never be the copy that the linker keeps for an older processor.
#pragma once

namespace ems {

enum class Isa : int { baseline = 0, avx2 = 1, avx512 = 2 };

const char* isa_name(Isa isa);
bool isa_compiled(Isa isa);
bool isa_available(Isa isa);          // compiled in and supported by this processor
Isa active_isa();                     // the best available one, unless set_active_isa chose another
void set_active_isa(Isa isa);         // throws std::invalid_argument if it is not available
bool has_fast_bfloat16();             // matrix products in bfloat16 beat those in float32

// Picks the active instruction set's table: select(baseline::t, avx2::t, avx512::t).
#if defined(__x86_64__)
#define EMS_SELECT_TABLE(Table, name)                                        \
  namespace baseline { extern const Table name; }                            \
  namespace avx2 { extern const Table name; }                                \
  namespace avx512 { extern const Table name; }                              \
  inline const Table& active_##name() {                                      \
    switch (active_isa()) {                                                  \
      case Isa::avx512: return avx512::name;                                 \
      case Isa::avx2: return avx2::name;                                     \
      default: return baseline::name;                                        \
    }                                                                        \
  }
#else
#define EMS_SELECT_TABLE(Table, name)                                        \
  namespace baseline { extern const Table name; }                            \
  inline const Table& active_##name() { return baseline::name; }
#endif

}  // namespace ems
