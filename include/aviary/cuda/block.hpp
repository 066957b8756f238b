#pragma once
/// A block of threads, on a device or emulated on the host. Device code of this folder is written once, over a Block, as phases:
///
///     block.each([&](int thread) { ... });     every thread runs it
///     block.sync();                            what threads wrote to shared memory before is there for all after
///     block.exchange<n>(mask, from, to);       lanes hand numbers to others of their warp
///     block.copy<bytes>(to, from);             begins to copy to shared memory
///     block.multiply<n>(a, b, d);              each warp of the first n threads multiplies matrices
///
/// What a thread keeps from phase to phase is a member of Own<X>: on a device the thread's registers, on the host an element for
/// each thread. So the host runs the threads of a phase one after another, in either order, and index arithmetic is proven where
/// there is no GPU. Nothing here needs a CUDA header.
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "aviary/core/convert.hpp"
#include "aviary/matrix/group.hpp"

namespace AVIARY_NAMESPACE::cuda {

/// Threads that run in step and exchange numbers without memory.
inline constexpr int warp = 32;

/// @name Matrices of a warp
/// Tensor cores multiply numbers of 11 significant bits (TF32) and add up floats. A lane holds four of the 16 x 8 numbers of a, two of
/// the 8 x 8 of b and four of the 16 x 8 of d.
///@{
/// The nearest number of 11 significant bits, away from 0 where two are as near. Tensor cores cut off what is left otherwise.
AVIARY_HOST_DEVICE AVIARY_INLINE float round_to_tf32(float x) noexcept {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  unsigned rounded;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
  return __uint_as_float(rounded);
#else
  std::uint32_t const bits = detail::bits_of(x);
  bool const finite = (bits & 0x7f800000) != 0x7f800000;
  return finite ? detail::float_of((bits + 0x1000) & 0xffffe000) : x;
#endif
}

/// Where the numbers of a lane lie, with its quad among the eight of the warp and its place in it:
///
///     a    number i: row quad + i % 2 * 8, column in_quad + i / 2 * 4
///     b    number i: row in_quad + i * 4, column quad
///     d    number i: row quad + i / 2 * 8, column 2 in_quad + i % 2
struct Lane {
  int thread;
  AVIARY_HOST_DEVICE constexpr int quad() const noexcept { return thread % warp / 4; }
  AVIARY_HOST_DEVICE constexpr int in_quad() const noexcept { return thread % 4; }
};
///@}

#if AVIARY_DEVICE_COMPILER
/// The block that runs this code, with its dynamic shared memory. Its members do nothing on the host.
template <int Threads> class DeviceBlock {
 public:
  static constexpr int threads = Threads;
  template <class X> struct Own {
    X x;
    AVIARY_HOST_DEVICE AVIARY_INLINE X& operator[](int) noexcept { return x; }
  };

  AVIARY_HOST_DEVICE explicit DeviceBlock(std::byte* shared) noexcept : shared_(shared) {}
  AVIARY_HOST_DEVICE std::byte* shared() const noexcept { return shared_; }

  template <class F> AVIARY_HOST_DEVICE AVIARY_INLINE void each(F&& f) noexcept {
#if defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
    f(static_cast<int>(threadIdx.x));
#endif
  }
  AVIARY_HOST_DEVICE AVIARY_INLINE void sync() noexcept {
#if defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
    __syncthreads();
#endif
  }
  /// to(thread, i) gets from(thread ^ mask, i) for n numbers; it changes none that `from` still gives. mask < warp.
  template <int n, class From, class To>
  AVIARY_HOST_DEVICE AVIARY_INLINE void exchange(int mask, From&& from, To&& to) {
#if defined(__CUDA_ARCH__)
    int const thread = static_cast<int>(threadIdx.x);
    detail::unroll<n>([&](auto i) { to(thread, i, __shfl_xor_sync(0xffffffffu, from(thread, i), mask)); });
#elif defined(__HIP_DEVICE_COMPILE__)
    int const thread = static_cast<int>(threadIdx.x);
    detail::unroll<n>([&](auto i) { to(thread, i, __shfl_xor(from(thread, i), mask, warp)); });
#endif
  }
  /// d += a b, in every warp of the first n threads: a(thread, i), b(thread, i) and the reference d(thread, i) are the numbers of
  /// lanes (Lane). Needs compute capability 8.0: before that it does nothing.
  template <int n, class A, class B, class D>
  AVIARY_HOST_DEVICE AVIARY_INLINE void multiply(A&& a, B&& b, D&& d) noexcept {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    int const thread = static_cast<int>(threadIdx.x);
    if (n < Threads && thread >= n) return;
    using detail::Constant;
    auto const bits = [](float x) { return __float_as_uint(x); };
    asm volatile(
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
        "%3};"
        : "+f"(d(thread, Constant<0>())), "+f"(d(thread, Constant<1>())), "+f"(d(thread, Constant<2>())),
          "+f"(d(thread, Constant<3>()))
        : "r"(bits(a(thread, Constant<0>()))), "r"(bits(a(thread, Constant<1>()))), "r"(bits(a(thread, Constant<2>()))),
          "r"(bits(a(thread, Constant<3>()))), "r"(bits(b(thread, Constant<0>()))),
          "r"(bits(b(thread, Constant<1>()))));
#endif
  }
  /// Begins to copy some bytes of global memory to shared memory: 4, 8 or 16, on boundaries of as many. They are there for the
  /// thread after wait_for_copies, and for others after the sync that follows.
  template <int bytes> AVIARY_HOST_DEVICE AVIARY_INLINE void copy(std::byte* to, std::byte const* from) noexcept {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    unsigned const place = static_cast<unsigned>(__cvta_generic_to_shared(to));
    if constexpr (bytes == 16)
      asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(place), "l"(from));
    else
      asm volatile("cp.async.ca.shared.global [%0], [%1], %2;" ::"r"(place), "l"(from), "n"(bytes));
#else
    struct alignas(bytes) Piece {
      std::byte x[static_cast<std::size_t>(bytes)];
    };
    *reinterpret_cast<Piece*>(to) = *reinterpret_cast<Piece const*>(from);
#endif
  }
  /// The copies that were begun since the last call are one batch.
  AVIARY_HOST_DEVICE AVIARY_INLINE void end_batch() noexcept {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;");
#endif
  }
  /// Until all but the newest n batches are there.
  template <int n> AVIARY_HOST_DEVICE AVIARY_INLINE void wait_for_copies() noexcept {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
#endif
  }

 private:
  std::byte* shared_;
};
#else

/// A block on the host. Copies take place when they are waited for, shared memory begins as NaN, and threads run forwards or
/// backwards: code that relies on anything else gives other bits.
template <int Threads> class HostBlock {
 public:
  static constexpr int threads = Threads;
  template <class X> struct Own {
    std::vector<X> x = std::vector<X>(Threads);
    X& operator[](int thread) noexcept { return x[static_cast<std::size_t>(thread)]; }
  };

  HostBlock(std::size_t shared_bytes, bool backwards)
      : shared_(shared_bytes / sizeof(Line) + 1), backwards_(backwards) {
    std::memset(shared_.data(), 0xff, shared_.size() * sizeof(Line));
  }
  std::byte* shared() noexcept { return reinterpret_cast<std::byte*>(shared_.data()); }

  template <class F> void each(F&& f) {
    for (int i = 0; i < Threads; ++i) f(backwards_ ? Threads - 1 - i : i);
  }
  void sync() noexcept {}
  template <int n, class From, class To> void exchange(int mask, From&& from, To&& to) {
    using X = decltype(from(0, detail::Constant<0>{}));
    std::vector<X> sent(static_cast<std::size_t>(Threads * n));
    auto const place = [](int thread, int i) { return static_cast<std::size_t>(thread * n + i); };
    each([&](int thread) { detail::unroll<n>([&](auto i) { sent[place(thread, i)] = from(thread, i); }); });
    each([&](int thread) { detail::unroll<n>([&](auto i) { to(thread, i, sent[place(thread ^ mask, i)]); }); });
  }
  template <int n, class A, class B, class D> void multiply(A&& a, B&& b, D&& d) {
    static_assert(n % warp == 0 && n <= Threads);
    auto const cut = [](float x) { return static_cast<double>(detail::float_of(detail::bits_of(x) & 0xffffe000)); };
    for (int first = 0; first < n; first += warp) {
      double x[16][8], y[8][8];
      auto const for_lanes = [&](auto&& f) {
        for (int thread = first; thread < first + warp; ++thread)
          f(thread, Lane{thread}.quad(), Lane{thread}.in_quad());
      };
      for_lanes([&](int thread, int quad, int in_quad) {
        detail::unroll<4>([&](auto i) { x[quad + i % 2 * 8][in_quad + i / 2 * 4] = cut(a(thread, i)); });
        detail::unroll<2>([&](auto i) { y[in_quad + i * 4][quad] = cut(b(thread, i)); });
      });
      for_lanes([&](int thread, int quad, int in_quad) {
        detail::unroll<4>([&](auto i) {
          double sum = d(thread, i);
          for (int k = 0; k < 8; ++k) sum += x[quad + i / 2 * 8][k] * y[k][2 * in_quad + i % 2];
          d(thread, i) = static_cast<float>(sum);
        });
      });
    }
  }
  template <int bytes> void copy(std::byte* to, std::byte const* from) {
    AVIARY_ASSERT(reinterpret_cast<std::uintptr_t>(to) % bytes == 0 &&
                  reinterpret_cast<std::uintptr_t>(from) % bytes == 0);
    begun_.push_back({to, from, bytes});
  }
  void end_batch() { batches_.push_back(std::move(begun_)), begun_.clear(); }
  template <int n> void wait_for_copies() {
    for (; batches_.size() > n; batches_.erase(batches_.begin()))
      for (Copy const& x : batches_.front()) std::memcpy(x.to, x.from, static_cast<std::size_t>(x.bytes));
  }

 private:
  struct alignas(alignment) Line {
    std::byte x[alignment];
  };
  struct Copy {
    std::byte* to;
    std::byte const* from;
    int bytes;
  };
  std::vector<Line> shared_;
  std::vector<Copy> begun_;
  std::vector<std::vector<Copy>> batches_;
  bool backwards_;
};

/// Runs all blocks of a kernel on the host: see launch.hpp for what a kernel is.
template <class Kernel> void emulate(typename Kernel::Arguments const& arguments, bool backwards = false) {
  for (Index i = 0, n = Kernel::blocks(arguments); i < n; ++i) {
    HostBlock<Kernel::threads> block(Kernel::shared_bytes, backwards);
    Kernel::run(block, arguments, backwards ? n - 1 - i : i);
  }
}
#endif

/// @name Sums over lanes
/// x(thread, i) is number i of a thread. Threads whose numbers differ in the bits of step, 2 step, ... lanes/2 step add up: groups of
/// `lanes` threads, which is a power of two, within a warp.
///@{
/// Each thread of a group gets all n sums.
template <int n, int lanes, int step = 1, class Block, class X>
AVIARY_HOST_DEVICE AVIARY_INLINE void sum_for_all(Block& block, X&& x) {
  if constexpr (lanes > 1) {
    using T = std::remove_cvref_t<decltype(x(0, 0))>;
    block.template exchange<n>(
        lanes / 2 * step, [&](int thread, int i) { return x(thread, i); },
        [&](int thread, int i, T other) { x(thread, i) += other; });
    sum_for_all<n, lanes / 2, step>(block, x);
  }
}

/// What a thread gets of n sums if they are handed over in halves, never less than `least` of them: `count` from first(thread) on.
/// Where there are fewer parts than lanes neighbours get the same, and chosen(thread) is one of them.
template <int n, int lanes, int least = 1, int step = 1> struct Scattering {
  static constexpr bool halves = lanes > 1 && n % (2 * least) == 0;
  static constexpr int half = halves ? n / 2 : n, mask = lanes / 2 * step;
  AVIARY_HOST_DEVICE static constexpr int count() noexcept {
    if constexpr (halves)
      return Scattering<half, lanes / 2, least, step>::count();
    else
      return n;
  }
  AVIARY_HOST_DEVICE static constexpr int first(int thread) noexcept {
    if constexpr (halves)
      return (thread & mask ? half : 0) + Scattering<half, lanes / 2, least, step>::first(thread);
    else
      return 0;
  }
  AVIARY_HOST_DEVICE static constexpr bool chosen(int thread) noexcept {
    if constexpr (halves)
      return Scattering<half, lanes / 2, least, step>::chosen(thread);
    else
      return lanes == 1 || thread / step % lanes == 0;
  }
};

/// Each thread gets, as its first numbers, the sums that Scattering says.
template <int n, int lanes, int least = 1, int step = 1, class Block, class X>
AVIARY_HOST_DEVICE AVIARY_INLINE void sum_and_scatter(Block& block, X&& x) {
  using Parts = Scattering<n, lanes, least, step>;
  if constexpr (Parts::halves) {
    using T = std::remove_cvref_t<decltype(x(0, 0))>;
    constexpr int half = Parts::half, mask = Parts::mask;
    block.template exchange<half>(
        mask, [&](int thread, int i) { return thread & mask ? x(thread, i) : x(thread, half + i); },
        [&](int thread, int i, T other) {
          x(thread, i) = (thread & mask ? x(thread, half + i) : x(thread, i)) + other;
        });
    sum_and_scatter<half, lanes / 2, least, step>(block, x);
  } else {
    sum_for_all<n, lanes, step>(block, x);
  }
}

/// The way back: all threads of a group get all n numbers of which each has what Scattering says.
template <int n, int lanes, int least = 1, int step = 1, class Block, class X>
AVIARY_HOST_DEVICE AVIARY_INLINE void gather(Block& block, X&& x) {
  using Parts = Scattering<n, lanes, least, step>;
  if constexpr (Parts::halves) {
    using T = std::remove_cvref_t<decltype(x(0, 0))>;
    constexpr int half = Parts::half, mask = Parts::mask;
    gather<half, lanes / 2, least, step>(block, x);
    block.template exchange<half>(
        mask, [&](int thread, int i) { return x(thread, i); },
        [&](int thread, int i, T other) {
          T const own = x(thread, i);
          x(thread, i) = thread & mask ? other : own;
          x(thread, half + i) = thread & mask ? own : other;
        });
  }
}
///@}

}  // namespace AVIARY_NAMESPACE::cuda
