#pragma once
/// One vocabulary for a number, a SIMD batch, and several batches side by side. Kernels are written once, over a type P
/// and Pack<P>. This folder alone names xsimd, and mends what differs between its versions (8.1 to 14).
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <utility>

#include "aviary/core/convert.hpp"
#include "aviary/simd/exponential.hpp"
#include "aviary/simd/half.hpp"
#include "aviary/simd/xsimd.hpp"

/// Hides from the optimizer how a number or a register came about. It costs no instruction, and only -ffast-math needs it.
#if (defined(__GNUC__) || defined(__clang__)) && !AVIARY_DEVICE_COMPILER && defined(__SSE2__)
#define AVIARY_OPAQUE(x) asm("" : "+v"(x))
#elif (defined(__GNUC__) || defined(__clang__)) && !AVIARY_DEVICE_COMPILER && defined(__aarch64__)
#define AVIARY_OPAQUE(x) asm("" : "+w"(x))
#elif defined(__FAST_MATH__) || defined(_M_FP_FAST)
#error aviary: with -ffast-math the exponential is right on x86 with SSE2 and on 64-bit ARM only: compile without it
#else
#define AVIARY_OPAQUE(x) static_cast<void>(x)
#endif

namespace AVIARY_NAMESPACE::simd {

/// What a kernel does with a P: load, store, fma, exp, decay, expm1, sum, min, max, select, any, scale, exponent, opaque. P(x) is x
/// in every lane; operators and comparisons work lane by lane.
/// `registers` of them may be held at once; 1 says that packs side by side gain nothing.
/// This is the pack of one lane, the only one in device code.
template <class P> struct Pack {
  using value_type = P;
  static constexpr Index lanes = 1;
  static constexpr int registers = 1;
  AVIARY_HOST_DEVICE static P load(P const* p) noexcept { return *p; }
  AVIARY_HOST_DEVICE static void store(P* p, P x) noexcept { *p = x; }
  /// a b + c, rounded once where the machine can.
  AVIARY_HOST_DEVICE static P fma(P a, P b, P c) noexcept {
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__CUDA_ARCH__) || defined(__HIP_DEVICE_COMPILE__)
    using std::fma;
    return fma(a, b, c);
#else
    return a * b + c;
#endif
  }
  AVIARY_HOST_DEVICE static P exp(P x) noexcept {
    using std::exp;
    return exp(x);
  }
  /// exp for x <= 0.
  AVIARY_HOST_DEVICE static P decay(P x) noexcept { return exp(x); }
  AVIARY_HOST_DEVICE static P expm1(P x) noexcept {
    using std::expm1;
    return expm1(x);
  }
  AVIARY_HOST_DEVICE static P sum(P x) noexcept { return x; }
  /// The smaller, the larger; b where one of them is NaN.
  AVIARY_HOST_DEVICE static P min(P a, P b) noexcept { return a < b ? a : b; }
  AVIARY_HOST_DEVICE static P max(P a, P b) noexcept { return b < a ? a : b; }
  /// A lane of `yes` or of `no`; whether a comparison holds in any lane.
  AVIARY_HOST_DEVICE static P select(bool condition, P yes, P no) noexcept { return condition ? yes : no; }
  AVIARY_HOST_DEVICE static bool any(bool condition) noexcept { return condition; }
  /// x 2^n for whole numbers n, where 2^n is a normal number.
  AVIARY_HOST_DEVICE static P scale(P x, P n) noexcept {
    using E = detail::Exponent<P>;
    return x * __builtin_bit_cast(P, __builtin_bit_cast(typename E::Bits, n + E::shift) << E::fraction);
  }
  /// The whole number n with 2^n <= x < 2^(n + 1), for normal x > 0.
  AVIARY_HOST_DEVICE static P exponent(P x) noexcept {
    using E = detail::Exponent<P>;
    using Bits = typename E::Bits;
    Bits const bits = (__builtin_bit_cast(Bits, x) >> E::fraction) | __builtin_bit_cast(Bits, E::unit);
    return __builtin_bit_cast(P, bits) - (E::unit + E::bias);
  }
  /// x, rounded as it is: what follows is not computed together with what x was computed from.
  AVIARY_HOST_DEVICE static P opaque(P x) noexcept {
    AVIARY_OPAQUE(x);
    return x;
  }
};

#if !AVIARY_DEVICE_COMPILER
template <class T, class A> struct Pack<xsimd::batch<T, A>> {
  using P = xsimd::batch<T, A>;
  using value_type = T;
  static constexpr Index lanes = static_cast<Index>(P::size);
#if defined(__x86_64__) || defined(_M_X64) || defined(__i386__)
  static constexpr int registers = sizeof(P) == 64 ? 32 : 16;
#else
  static constexpr int registers = 32;
#endif
  static AVIARY_INLINE P load(T const* p) noexcept { return P::load_unaligned(p); }
  static AVIARY_INLINE void store(T* p, P const& x) noexcept { x.store_unaligned(p); }
  static AVIARY_INLINE P fma(P const& a, P const& b, P const& c) noexcept {
#if XSIMD_VERSION_MAJOR < 11 && XSIMD_WITH_AVX512F  // xsimd::fma multiplies, then adds there
    if constexpr (std::is_base_of_v<xsimd::avx512f, A> && std::is_same_v<T, float>)
      return _mm512_fmadd_ps(a, b, c);
    else if constexpr (std::is_base_of_v<xsimd::avx512f, A> && std::is_same_v<T, double>)
      return _mm512_fmadd_pd(a, b, c);
    else
#endif
      return xsimd::fma(a, b, c);
  }
  static AVIARY_INLINE P exp(P const& x) noexcept { return Exponential<P>::exp(x); }
  static AVIARY_INLINE P decay(P const& x) noexcept { return Exponential<P>::decay(x); }
  static AVIARY_INLINE P expm1(P const& x) noexcept { return Exponential<P>::expm1(x); }
  static AVIARY_INLINE T sum(P const& x) noexcept {
#if XSIMD_VERSION_MAJOR >= 9
    return xsimd::reduce_add(x);
#else
    return xsimd::hadd(x);
#endif
  }
  // Not xsimd::min and max: what they make of NaN differs between versions.
  static AVIARY_INLINE P min(P const& a, P const& b) noexcept { return xsimd::select(a < b, a, b); }
  static AVIARY_INLINE P max(P const& a, P const& b) noexcept { return xsimd::select(b < a, a, b); }
  using Mask = typename P::batch_bool_type;
  static AVIARY_INLINE P select(Mask const& condition, P const& yes, P const& no) noexcept {
    return xsimd::select(condition, yes, no);
  }
  static AVIARY_INLINE bool any(Mask const& condition) noexcept { return xsimd::any(condition); }
  static AVIARY_INLINE P scale(P const& x, P const& n) noexcept {
#if XSIMD_WITH_AVX512F
    if constexpr (std::is_base_of_v<xsimd::avx512f, A> && std::is_same_v<T, float>)
      return _mm512_maskz_scalef_ps(0xffff, x, n);  // all lanes: see half.hpp
    else if constexpr (std::is_base_of_v<xsimd::avx512f, A> && std::is_same_v<T, double>)
      return _mm512_maskz_scalef_pd(0xff, x, n);
    else
#endif
      return x * detail::same_bits<T>(detail::same_bits<Bits>(n + P(detail::Exponent<T>::shift))
                                      << detail::Exponent<T>::fraction);
  }
  static AVIARY_INLINE P exponent(P const& x) noexcept {
    using E = detail::Exponent<T>;
    return detail::same_bits<T>((detail::same_bits<Bits>(x) >> E::fraction) | detail::same_bits<Bits>(P(E::unit))) -
           P(E::unit + E::bias);
  }
  static AVIARY_INLINE P opaque(P x) noexcept {
    AVIARY_OPAQUE(x.data);
    return x;
  }

 private:
  using Bits = typename detail::Exponent<T>::Bits;
};
#endif

template <class P, class S> AVIARY_HOST_DEVICE AVIARY_INLINE P load(S const* p) noexcept;

/// N packs side by side, used as one pack of N times the lanes: what is broadcast is loaded once for all of them. The language
/// unrolls all of it (n...), in one step and not by calls of calls, which compilers of kernels would spend their time on.
template <class P, class Numbers> struct Side;
template <class P, int... n> struct Side<P, std::integer_sequence<int, n...>> {
  using Part = P;
  using T = typename Pack<P>::value_type;
  static constexpr int parts = sizeof...(n);
  P part[to_size(parts)];

  Side() = default;
  AVIARY_INLINE explicit Side(T x) noexcept : Side(Parts{}, (static_cast<void>(n), P(x))...) {}
  struct Parts {};
  template <class... Ps> AVIARY_INLINE Side(Parts, Ps const&... x) noexcept : part{x...} {}
  friend AVIARY_INLINE Side operator+(Side const& a, Side const& b) noexcept {
    return {Parts{}, (a.part[n] + b.part[n])...};
  }
  friend AVIARY_INLINE Side operator-(Side const& a, Side const& b) noexcept {
    return {Parts{}, (a.part[n] - b.part[n])...};
  }
  friend AVIARY_INLINE Side operator*(Side const& a, Side const& b) noexcept {
    return {Parts{}, (a.part[n] * b.part[n])...};
  }
};
template <class P, int N> using Wide = Side<P, std::make_integer_sequence<int, N>>;

template <class Q, int... n> struct Pack<Side<Q, std::integer_sequence<int, n...>>> {
  using P = Side<Q, std::integer_sequence<int, n...>>;
  using Parts = typename P::Parts;
  using L = Pack<Q>;
  using value_type = typename L::value_type;
  static constexpr Index lanes = P::parts * L::lanes;
  static AVIARY_INLINE P load(value_type const* p) noexcept { return {Parts{}, L::load(p + n * L::lanes)...}; }
  static AVIARY_INLINE void store(value_type* p, P const& x) noexcept { (L::store(p + n * L::lanes, x.part[n]), ...); }
  static AVIARY_INLINE P fma(P const& a, P const& b, P const& c) noexcept {
    return {Parts{}, L::fma(a.part[n], b.part[n], c.part[n])...};
  }
  static AVIARY_INLINE P opaque(P const& x) noexcept { return {Parts{}, L::opaque(x.part[n])...}; }
  /// Numbers of any other format.
  template <class S> static AVIARY_INLINE P load_stored(S const* p) noexcept {
    return {Parts{}, simd::load<Q>(p + n * L::lanes)...};
  }
};

#if !AVIARY_DEVICE_COMPILER && !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
/// The widest batch of the instruction set that the build allows; T itself where there is none, and in device code.
template <class T> using Native = xsimd::batch<T>;
#else
template <class T> using Native = T;
#endif

/// A pack from numbers of any floating format.
template <class P, class S> AVIARY_HOST_DEVICE AVIARY_INLINE P load(S const* p) noexcept {
  using L = Pack<P>;
  if constexpr (std::is_same_v<S, typename L::value_type>) {
    return L::load(p);
  } else if constexpr (requires { P::parts; }) {
    return L::load_stored(p);
  } else if constexpr (requires { detail::Half<P>::load(p); }) {
    return detail::Half<P>::load(p);
  } else {
    using T = typename L::value_type;
    T lanes[L::lanes];
    for (Index i = 0; i < L::lanes; ++i) lanes[i] = narrow<T>(widen(p[i]));
    return L::load(lanes);
  }
}

/// A pack into numbers of any floating format, rounded to nearest. (Call it with its namespace: xsimd has one for
/// aligned numbers.)
template <class P, class S> AVIARY_HOST_DEVICE AVIARY_INLINE void store(S* p, P const& x) noexcept {
  using L = Pack<P>;
  if constexpr (std::is_same_v<S, typename L::value_type>) {
    L::store(p, x);
  } else if constexpr (requires { P::parts; }) {
    for (int n = 0; n < P::parts; ++n) simd::store(p + n * L::lanes / P::parts, x.part[n]);
  } else if constexpr (requires { detail::Half<P>::store(p, x); }) {
    detail::Half<P>::store(p, x);
  } else {
    typename L::value_type lanes[L::lanes];
    L::store(lanes, x);
    for (Index i = 0; i < L::lanes; ++i) p[i] = narrow<S>(lanes[i]);
  }
}

/// The lanes that begin with number first of n; 0 in lanes past the end.
template <class P, class S> AVIARY_HOST_DEVICE inline P load_part(S const* p, Index first, Index n) noexcept {
  using L = Pack<P>;
  if (first + L::lanes <= n) return simd::load<P>(p + first);
  S lanes[L::lanes] = {};
  for (Index i = 0; i < n - first; ++i) lanes[i] = p[first + i];
  return simd::load<P>(lanes);
}

/// Stores the lanes that begin with number first of n, and nothing past the end.
template <class P, class S> AVIARY_HOST_DEVICE inline void store_part(S* p, Index first, Index n, P const& x) noexcept {
  using L = Pack<P>;
  if (first + L::lanes <= n) return simd::store(p + first, x);
  S lanes[L::lanes];
  simd::store(lanes, x);
  for (Index i = 0; i < n - first; ++i) p[first + i] = lanes[i];
}

#if !AVIARY_DEVICE_COMPILER
namespace detail {
/// Lane i is the sum of the lanes of rows[i], for as many rows as lanes.
template <class P> AVIARY_INLINE P sums_of_rows(P const* rows) noexcept {
#if XSIMD_WITH_AVX512F  // xsimd 8.1 has the lanes in another order there
  if constexpr (std::is_same_v<typename Pack<P>::value_type, float> && Pack<P>::lanes == 16) {
    // Parts of 128 bits first, each with sums of four rows; then these parts.
    auto const four = [](P const* x) AVIARY_INLINE_LAMBDA -> P {
      P const ab = P(_mm512_unpacklo_ps(x[0], x[1])) + P(_mm512_unpackhi_ps(x[0], x[1]));
      P const cd = P(_mm512_unpacklo_ps(x[2], x[3])) + P(_mm512_unpackhi_ps(x[2], x[3]));
      __m512d const a = _mm512_castps_pd(ab), c = _mm512_castps_pd(cd);
      return P(_mm512_castpd_ps(_mm512_unpacklo_pd(a, c))) + P(_mm512_castpd_ps(_mm512_unpackhi_pd(a, c)));
    };
    auto const two = [](P const& x, P const& y) AVIARY_INLINE_LAMBDA -> P {
      return P(_mm512_shuffle_f32x4(x, y, 0x88)) + P(_mm512_shuffle_f32x4(x, y, 0xdd));
    };
    return two(two(four(rows), four(rows + 4)), two(four(rows + 8), four(rows + 12)));
  } else
#endif
    return xsimd::haddp(rows);
}
}  // namespace detail
#endif

/// to[i] = the sum of the lanes of x[i], for n packs. `to` has room for whole packs.
template <int n, class P>
AVIARY_HOST_DEVICE AVIARY_INLINE void sums(P const* x, typename Pack<P>::value_type* to) noexcept {
  if constexpr (Pack<P>::lanes == 1) {
    for (int i = 0; i < n; ++i) to[i] = x[i];
  } else {
#if !AVIARY_DEVICE_COMPILER
    constexpr int lanes = static_cast<int>(Pack<P>::lanes);
    for (int i = 0; i < n; i += lanes) {
      P rows[to_size(lanes)];
      for (int m = 0; m < lanes; ++m) rows[m] = i + m < n ? x[i + m] : P(0);
      Pack<P>::store(to + i, detail::sums_of_rows(rows));
    }
#endif
  }
}

#if !AVIARY_DEVICE_COMPILER && defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define AVIARY_HAS_SHUFFLE 1
#endif
#endif

namespace detail {
#if defined(AVIARY_HAS_SHUFFLE)
/// The lanes of a and b by turns: those of their first halves, or of their second.
template <int half, class P, int... i>
AVIARY_INLINE P interleaved(P const& a, P const& b, std::integer_sequence<int, i...>) noexcept {
  constexpr int n = sizeof...(i);
  return P(__builtin_shufflevector(a.data, b.data, (half * n / 2 + i / 2 + i % 2 * n)...));
}
#endif
}  // namespace detail

/// Lane i of row j becomes lane j of row i, for as many rows as lanes.
template <class P> AVIARY_HOST_DEVICE AVIARY_INLINE void transpose(P* rows) noexcept {
  constexpr int n = static_cast<int>(Pack<P>::lanes);
  if constexpr (n > 1) {
#if defined(AVIARY_HAS_SHUFFLE)
    using Lanes = std::make_integer_sequence<int, n>;
    P next[to_size(n)];
    AVIARY_UNROLL(4)
    for (int stage = 1; stage < n; stage *= 2) {
      AVIARY_UNROLL(8)
      for (int i = 0; i < n / 2; ++i) {
        next[2 * i] = detail::interleaved<0>(rows[i], rows[i + n / 2], Lanes());
        next[2 * i + 1] = detail::interleaved<1>(rows[i], rows[i + n / 2], Lanes());
      }
      AVIARY_UNROLL(16)
      for (int i = 0; i < n; ++i) rows[i] = next[i];
    }
#else
    using T = typename Pack<P>::value_type;
    T numbers[to_size(n)][to_size(n)], column[to_size(n)];
    for (int j = 0; j < n; ++j) Pack<P>::store(numbers[j], rows[j]);
    for (int i = 0; i < n; ++i) {
      for (int j = 0; j < n; ++j) column[j] = numbers[j][i];
      rows[i] = Pack<P>::load(column);
    }
#endif
  }
}

/// Asks for the line of memory at an address, which may be any, into second-level cache or into the first.
/// (Inlined always: g++ takes a function with nothing but this in it for one without effect, and drops its calls.)
AVIARY_HOST_DEVICE AVIARY_INLINE void prefetch_far([[maybe_unused]] std::uintptr_t address) noexcept {
#if (defined(__GNUC__) || defined(__clang__)) && !AVIARY_DEVICE_COMPILER
  __builtin_prefetch(reinterpret_cast<void const*>(address), 0, 2);
#endif
}
AVIARY_HOST_DEVICE AVIARY_INLINE void prefetch_near([[maybe_unused]] std::uintptr_t address) noexcept {
#if (defined(__GNUC__) || defined(__clang__)) && !AVIARY_DEVICE_COMPILER
  __builtin_prefetch(reinterpret_cast<void const*>(address), 0, 3);
#endif
}

/// Packs that a kernel takes side by side: `widest` at most, and no more than `size` numbers (a compile-time size or
/// `dynamic`) are.
template <class P, Index size = dynamic, int widest = Pack<P>::registers / 8>
AVIARY_HOST_DEVICE constexpr int side_by_side() noexcept {
  int n = Pack<P>::registers < 16 ? 1 : widest >= 4 ? 4 : widest >= 2 ? 2 : 1;
  while (n > 1 && size != dynamic && n * Pack<P>::lanes > size) n /= 2;
  return n;
}

/// f.operator()<Q>(i) for packs Q that cover [first, last): side by side while they fit, then single ones, of which the last
/// may reach past the end. How the range is cut changes no lane. Where `size` numbers are whole packs side by side, so must
/// the range be.
template <class P, Index size = dynamic, int widest = Pack<P>::registers / 8, class F>
AVIARY_HOST_DEVICE AVIARY_INLINE void for_packs(Index first, Index last, F&& f) noexcept {
  constexpr int n = side_by_side<P, size, widest>();
  constexpr Index lanes = n * Pack<P>::lanes;
  Index i = first;
  if constexpr (n > 1)
    for (; i + lanes <= last; i += lanes) f.template operator()<Wide<P, n>>(i);
  if constexpr (n == 1 || size == dynamic || size % lanes != 0) {
    for (; i < last; i += Pack<P>::lanes) f.template operator()<P>(i);
  } else {
    AVIARY_ASSERT(i == last);
  }
}

/// to[i] = f(from[i]...) for n numbers, a pack at a time; f takes and gives packs. `to` may be one of `from`.
template <class T, class F, class... From> inline void transform(Index n, T* to, F&& f, From const*... from) noexcept {
  using P = Native<T>;
  for (Index i = 0; i < n; i += Pack<P>::lanes) store_part<P>(to, i, n, f(load_part<P>(from, i, n)...));
}

/// The sum of f(from[i]...) over n numbers, a pack at a time; f takes and gives packs, and numbers for the last few.
template <class T, class F, class... From> inline T sum(Index n, F&& f, T const* first, From const*... rest) noexcept {
  using P = Native<T>;
  P packs(T(0));
  T numbers(0);
  Index const whole = n - n % Pack<P>::lanes;
  for (Index i = 0; i < whole; i += Pack<P>::lanes)
    packs = packs + f(Pack<P>::load(first + i), Pack<P>::load(rest + i)...);
  for (Index i = whole; i < n; ++i) numbers += f(first[i], rest[i]...);
  return Pack<P>::sum(packs) + numbers;
}

/// The largest of n > 0 numbers; any of them if one is NaN.
template <class T> inline T largest(Index n, T const* x) noexcept {
  using P = Native<T>;
  using L = Pack<P>;
  T most = x[0];
  Index i = 0;
  if (n >= L::lanes) {
    P packs = L::load(x);
    for (i = L::lanes; i + L::lanes <= n; i += L::lanes) packs = L::max(packs, L::load(x + i));
    T lanes[L::lanes];
    L::store(lanes, packs);
    for (T const e : lanes) most = most < e ? e : most;
  }
  for (; i < n; ++i) most = most < x[i] ? x[i] : most;
  return most;
}

}  // namespace AVIARY_NAMESPACE::simd
