#pragma once
/// What every header uses: its namespace, the index type, the marks for host and device code, the assertion.
#include <cassert>
#include <cstddef>
#include <cstdio>
#include <cstdlib>

#include "aviary/core/namespace.hpp"

#define AVIARY_VERSION_MAJOR 0
#define AVIARY_VERSION_MINOR 1
#define AVIARY_VERSION_PATCH 0

/// Marks a function that also runs on a device.
#if AVIARY_DEVICE_COMPILER
#define AVIARY_HOST_DEVICE __host__ __device__
#else
#define AVIARY_HOST_DEVICE
#endif

namespace AVIARY_NAMESPACE::detail {
/// Prints what failed, and aborts. (Unlike that of assert(), its message repeats no template arguments: they would be the
/// larger part of a program.)
[[noreturn]] inline void assertion_failed(char const* condition, char const* file, int line) noexcept {
  std::fprintf(stderr, "%s:%d: aviary: assertion failed: %s\n", file, line, condition);
  std::abort();
}
}  // namespace AVIARY_NAMESPACE::detail

/// Checks a precondition of a hot path. NDEBUG turns it off. To replace it, define it before the first include.
/// AVIARY_ASSERT_CALL does the same with the words of check(call): it prints them before the assertion fails.
#if defined(AVIARY_ASSERT) || !defined(NDEBUG)
#define AVIARY_ASSERT_CALL(words) AVIARY_ASSERT(::aviary::detail::nothing_wrong(words))
#else
#define AVIARY_ASSERT_CALL(words) static_cast<void>(0)
#endif
#if !defined(AVIARY_ASSERT)
#if defined(NDEBUG)
#define AVIARY_ASSERT(condition) static_cast<void>(0)
#elif AVIARY_DEVICE_COMPILER
#define AVIARY_ASSERT(condition) assert(condition)
#else
#define AVIARY_ASSERT(condition) \
  ((condition) ? static_cast<void>(0) : ::aviary::detail::assertion_failed(#condition, __FILE__, __LINE__))
#endif
#endif

/// Forces the inlining of the few functions and lambdas that a kernel is made of. Without it g++ at -O2 keeps blocks of
/// registers in memory. A lambda takes the mark after its parameters. AVIARY_NO_INLINE keeps what is large or rare out of its
/// caller. Where nothing is optimised nothing is forced: such a file compiles in two thirds of the time.
#if defined(_MSC_VER) && !defined(__clang__)
#define AVIARY_INLINE __forceinline
#define AVIARY_INLINE_LAMBDA
#define AVIARY_NO_INLINE __declspec(noinline)
#else
#if defined(__OPTIMIZE__) || AVIARY_DEVICE_COMPILER
#define AVIARY_INLINE inline __attribute__((always_inline))
#define AVIARY_INLINE_LAMBDA __attribute__((always_inline))
#else
#define AVIARY_INLINE inline
#define AVIARY_INLINE_LAMBDA
#endif
#if AVIARY_DEVICE_COMPILER  // a call keeps its arrays in memory
#define AVIARY_NO_INLINE
#else
#define AVIARY_NO_INLINE __attribute__((noinline))
#endif
#endif

/// Around function templates that call what they are given, on the host or on a device: nvcc would say of every function of the
/// host that a device could not call it, which nobody asks for.
#if defined(__NVCC__)
#define AVIARY_CALLS_ANYTHING_BEGIN     \
  AVIARY_PRAGMA(nv_diagnostic push)     \
  AVIARY_PRAGMA(nv_diag_suppress 20011) \
  AVIARY_PRAGMA(nv_diag_suppress 20013) AVIARY_PRAGMA(nv_diag_suppress 20014) AVIARY_PRAGMA(nv_diag_suppress 20015)
#define AVIARY_CALLS_ANYTHING_END AVIARY_PRAGMA(nv_diagnostic pop)
#else
#define AVIARY_CALLS_ANYTHING_BEGIN
#define AVIARY_CALLS_ANYTHING_END
#endif

/// Asks for n turns of the loop that follows to be made one.
#if AVIARY_DEVICE_COMPILER
#define AVIARY_UNROLL(n)
#elif defined(__clang__)
#define AVIARY_UNROLL(n) AVIARY_PRAGMA(clang loop unroll_count(n))
#elif defined(__GNUC__)
#define AVIARY_UNROLL(n) AVIARY_PRAGMA(GCC unroll n)
#else
#define AVIARY_UNROLL(n)
#endif
#define AVIARY_PRAGMA(text) _Pragma(#text)

/// Asks a device's compiler to leave the loop that follows as it is: several turns at once would hold the addresses of all.
#if defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
#define AVIARY_KEEP_LOOP AVIARY_PRAGMA(unroll 1)
#else
#define AVIARY_KEEP_LOOP
#endif

namespace AVIARY_NAMESPACE {

using Index = std::ptrdiff_t;

/// An Index where an array bound or the standard library wants a std::size_t; n >= 0.
AVIARY_HOST_DEVICE constexpr std::size_t to_size(Index n) noexcept { return static_cast<std::size_t>(n); }

/// Stands in place of a compile-time size that is known only at run time.
inline constexpr Index dynamic = -1;

/// Rows of a state begin on these boundaries, whatever the instruction set.
inline constexpr Index alignment = 64;

}  // namespace AVIARY_NAMESPACE
