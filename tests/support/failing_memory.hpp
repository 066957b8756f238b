#pragma once
/// Memory that fails when a test wants it to. One source of a program may include this: it replaces the program's operator
/// new and delete, also those that allocation_counter.hpp would replace, which counts on.
#include <doctest/doctest.h>

#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <new>

#define AVIARY_TEST_FAILING_MEMORY
#include "support/allocation_counter.hpp"

namespace aviary::test {

inline std::atomic<long> until_failure{0};  // 1: the next allocation fails; 0 or less: none
inline std::atomic<long> allocated{0};      // what is not freed yet

namespace detail {
/// Null where memory fails.
inline void* take(std::size_t size, std::size_t boundary) noexcept {
  if (until_failure.load() > 0 && until_failure.fetch_sub(1) == 1) return nullptr;
  ++total_allocations;
  void* const p = std::aligned_alloc(boundary, (size / boundary + 1) * boundary);  // which wants a multiple
  if (p != nullptr) ++allocated;
  return p;
}
inline void* take_or_throw(std::size_t size, std::size_t boundary = alignof(std::max_align_t)) {
  if (void* const p = take(size, boundary)) return p;
  throw std::bad_alloc();
}
inline void give(void* p) noexcept {
  if (p != nullptr) --allocated;
  std::free(p);
}
}  // namespace detail

/// Makes a call again and again, with the first, second ... allocation failing, until one comes that it does not make. Each
/// call is prepared for, after each failure it is checked what is left, and what was prepared is released: nothing leaks.
/// Returns how many failures there were.
template <class Prepare, class Call, class Check, class Release>
long fail_each(Prepare&& prepare, Call&& call, Check&& check, Release&& release) {
  prepare(), call(), release();  // what is made once in a program's life is made
  for (long failures = 0;; ++failures) {
    long const before = allocated;
    prepare();
    bool failed = false;
    until_failure = failures + 1;
    try {
      call();
    } catch (std::bad_alloc const&) {
      failed = true;
    }
    bool const done = until_failure.exchange(0) > 0;  // it was never reached
    if (done && !failed) return failures;
    if (failed) check();
    release();
    long const after = allocated;  // tests allocate as well
    CAPTURE(failures);
    CHECK(after == before);
  }
}
template <class Prepare, class Call, class Check> long fail_each(Prepare&& prepare, Call&& call, Check&& check) {
  return fail_each(prepare, call, check, [] {});
}

}  // namespace aviary::test

void* operator new(std::size_t size) { return aviary::test::detail::take_or_throw(size); }
void* operator new(std::size_t size, std::align_val_t boundary) {
  return aviary::test::detail::take_or_throw(size, static_cast<std::size_t>(boundary));
}
void* operator new(std::size_t size, std::nothrow_t const&) noexcept {
  return aviary::test::detail::take(size, alignof(std::max_align_t));
}
void operator delete(void* p) noexcept { aviary::test::detail::give(p); }
void operator delete(void* p, std::align_val_t) noexcept { aviary::test::detail::give(p); }
void operator delete(void* p, std::size_t) noexcept { aviary::test::detail::give(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { aviary::test::detail::give(p); }
