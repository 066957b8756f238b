#pragma once
/// Subnormal numbers (in float those below 1.2e-38) slow most processors down: a step takes 71 to 115 times as long when the
/// whole state has decayed into them (Intel, AVX-512), and rounding holds them there for ever, where a decay near 1 should
/// take them to 0. Taken as 0 they cost nothing, and what is lost is nothing beside any other rounding.
///
/// Every verb that takes whole sequences takes them as 0. `step` leaves that to its caller, who knows where the loop over
/// tokens begins:
///
///     aviary::FlushToZero const flush;  // at the head of an audio callback, say
///     for (...) Memory::step(state, token, y);
#include <cstdint>

#include "aviary/core/namespace.hpp"

#if defined(__SSE2__) || defined(_M_X64)
#include <xmmintrin.h>
#endif

namespace AVIARY_NAMESPACE {

/// While it lives, the calling thread takes subnormal numbers as 0, operands and results alike. It does not reach other
/// threads. It costs 10 to 20 ns, and next to nothing inside of another. On processors other than x86 and 64-bit ARM it does
/// nothing.
class FlushToZero {
 public:
  FlushToZero() noexcept : before_(get() & flags) {
    if (before_ != flags) set(get() | flags);
  }
  FlushToZero(FlushToZero const&) = delete;
  FlushToZero& operator=(FlushToZero const&) = delete;
  ~FlushToZero() {
    if (before_ != flags) set((get() & ~flags) | before_);
  }

 private:
#if defined(__SSE2__) || defined(_M_X64)
  using Register = unsigned;
  static constexpr Register flags = 0x8040;  // flush to zero, denormals are zeros
  static Register get() noexcept { return _mm_getcsr(); }
  static void set(Register r) noexcept { _mm_setcsr(r); }
#elif defined(__aarch64__)
  using Register = std::uint64_t;
  static constexpr Register flags = Register{1} << 24;
  static Register get() noexcept {
    Register r;
    asm volatile("mrs %0, fpcr" : "=r"(r));
    return r;
  }
  static void set(Register r) noexcept { asm volatile("msr fpcr, %0" : : "r"(r) : "memory"); }
#else
  using Register = unsigned;
  static constexpr Register flags = 0;
  static Register get() noexcept { return 0; }
  static void set(Register) noexcept {}
#endif
  Register before_;
};

}  // namespace AVIARY_NAMESPACE
