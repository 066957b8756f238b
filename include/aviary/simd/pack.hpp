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

/// What a kernel does with a P: load, store, fma, exp, expm1, sum, min, max, select, any, scale, exponent, opaque. P(x) is x
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

/// N packs side by side, used as one pack of N times the lanes: what is broadcast is loaded once for all of them.
template <class P, int N> struct Wide {
  using Part = P;
  static constexpr int parts = N;
  P part[to_size(N)];
  using T = typename Pack<P>::value_type;

  Wide() = default;
  AVIARY_INLINE explicit Wide(T x) noexcept : Wide(P(x), std::make_integer_sequence<int, N>{}) {}
  /// {f(0) ... f(N - 1)}, unrolled by the language and not by the optimizer.
  template <class F> static AVIARY_INLINE Wide make(F&& f) noexcept {
    return make(f, std::make_integer_sequence<int, N>{});
  }
  friend AVIARY_INLINE Wide operator+(Wide const& a, Wide const& b) noexcept {
    return make([&](int n) AVIARY_INLINE_LAMBDA { return a.part[n] + b.part[n]; });
  }
  friend AVIARY_INLINE Wide operator-(Wide const& a, Wide const& b) noexcept {
    return make([&](int n) AVIARY_INLINE_LAMBDA { return a.part[n] - b.part[n]; });
  }
  friend AVIARY_INLINE Wide operator*(Wide const& a, Wide const& b) noexcept {
    return make([&](int n) AVIARY_INLINE_LAMBDA { return a.part[n] * b.part[n]; });
  }

 private:
  template <int... n>
  AVIARY_INLINE Wide(P const& x, std::integer_sequence<int, n...>) noexcept : part{(static_cast<void>(n), x)...} {}
  template <class F, int... n> static AVIARY_INLINE Wide make(F& f, std::integer_sequence<int, n...>) noexcept {
    Wide w;
    ((w.part[n] = f(n)), ...);
    return w;
  }
};

template <class Q, int N> struct Pack<Wide<Q, N>> {
  using P = Wide<Q, N>;
  using L = Pack<Q>;
  using value_type = typename L::value_type;
  static constexpr Index lanes = N * L::lanes;
  static AVIARY_INLINE P load(value_type const* p) noexcept {
    return P::make([&](int n) AVIARY_INLINE_LAMBDA { return L::load(p + n * L::lanes); });
  }
  static AVIARY_INLINE void store(value_type* p, P const& x) noexcept {
    store(p, x, std::make_integer_sequence<int, N>{});
  }
  static AVIARY_INLINE P fma(P const& a, P const& b, P const& c) noexcept {
    return P::make([&](int n) AVIARY_INLINE_LAMBDA { return L::fma(a.part[n], b.part[n], c.part[n]); });
  }

 private:
  template <int... n>
  static AVIARY_INLINE void store(value_type* p, P const& x, std::integer_sequence<int, n...>) noexcept {
    (L::store(p + n * L::lanes, x.part[n]), ...);
  }
};

#if !AVIARY_DEVICE_COMPILER && !defined(XSIMD_NO_SUPPORTED_ARCHITECTURE)
/// The widest batch of the instruction set that the build allows; T itself where there is none, and in device code.
template <class T> using Native = xsimd::batch<T>;
#else
template <class T> using Native = T;
#endif

/// A pack from numbers of any floating format, or from 8-bit integers.
template <class P, class S> AVIARY_HOST_DEVICE AVIARY_INLINE P load(S const* p) noexcept {
  using L = Pack<P>;
  if constexpr (std::is_same_v<S, typename L::value_type>) {
    return L::load(p);
  } else if constexpr (requires { P::parts; }) {
    return P::make([&](int n)
                       AVIARY_INLINE_LAMBDA { return simd::load<typename P::Part>(p + n * L::lanes / P::parts); });
  } else if constexpr (requires { detail::Half<P>::load(p); }) {
    return detail::Half<P>::load(p);
  } else {
    using T = typename L::value_type;
    T lanes[L::lanes];
    for (Index i = 0; i < L::lanes; ++i)
      if constexpr (Stored<S>)
        lanes[i] = narrow<T>(widen(p[i]));
      else
        lanes[i] = static_cast<T>(p[i]);
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

/// f.operator()<Q>(i) for packs Q that cover [first, last): wide ones while they fit, then single ones, of which the last
/// may reach past the end. How the range is cut changes no lane. Packs of more than `most` lanes are left out.
template <class P, Index most = dynamic, class F>
AVIARY_HOST_DEVICE AVIARY_INLINE void for_packs(Index first, Index last, F&& f) noexcept {
  using L = Pack<P>;
  Index i = first;
  if constexpr (L::registers >= 32 && (most == dynamic || 4 * L::lanes <= most))
    for (; i + 4 * L::lanes <= last; i += 4 * L::lanes) f.template operator()<Wide<P, 4>>(i);
  if constexpr (L::registers >= 16 && (most == dynamic || 2 * L::lanes <= most))
    for (; i + 2 * L::lanes <= last; i += 2 * L::lanes) f.template operator()<Wide<P, 2>>(i);
  for (; i < last; i += L::lanes) f.template operator()<P>(i);
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

}  // namespace AVIARY_NAMESPACE::simd
