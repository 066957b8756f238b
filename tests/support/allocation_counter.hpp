#pragma once
/// Counts what a program takes from `operator new`, on any thread: the proof that a hot path allocates nothing.
///   AllocationCounter const allocations;
///   memory.step(...);
///   CHECK(allocations.count() == 0);
/// Including this header replaces the program's operator new and delete. The replacements are weak, so that any number
/// of files of one program may include it. Not seen: memory that somebody takes with malloc, and anything at all under
/// the address sanitizer, which keeps its own.
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

#include "support/sanitizers.hpp"

namespace aviary::test {

inline std::atomic<std::size_t> total_allocations{0};

/// Allocations since this counter was made.
class AllocationCounter {
 public:
  std::size_t count() const noexcept { return total_allocations.load() - start_; }

 private:
  std::size_t start_ = total_allocations.load();
};

namespace detail {
inline void* counted(std::size_t bytes, std::size_t alignment = alignof(std::max_align_t)) {
  total_allocations.fetch_add(1);
  std::size_t const whole = (bytes + alignment - 1) / alignment * alignment;  // aligned_alloc wants a multiple
  if (void* const p = std::aligned_alloc(alignment, whole != 0 ? whole : alignment)) return p;
  throw std::bad_alloc();
}
}  // namespace detail

}  // namespace aviary::test

#if !defined(AVIARY_TEST_ADDRESS_SANITIZER) && !defined(AVIARY_TEST_FAILING_MEMORY)
// the array and nothrow forms end in these
__attribute__((weak)) void* operator new(std::size_t bytes) { return aviary::test::detail::counted(bytes); }
__attribute__((weak)) void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return aviary::test::detail::counted(bytes, static_cast<std::size_t>(alignment));
}
__attribute__((weak)) void operator delete(void* p) noexcept { std::free(p); }
__attribute__((weak)) void operator delete(void* p, std::align_val_t) noexcept { std::free(p); }
__attribute__((weak)) void operator delete(void* p, std::size_t) noexcept { std::free(p); }
__attribute__((weak)) void operator delete(void* p, std::size_t, std::align_val_t) noexcept { std::free(p); }
#endif
