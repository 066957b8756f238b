#pragma once
/// The exponential and the logarithm of packs, and what follows from them: with the same bits from every version of xsimd,
/// and right with -ffast-math too. This header belongs to pack.hpp: include that one.
#include <cstdint>
#include <limits>
#include <numbers>
#include <type_traits>

#include "aviary/core/math.hpp"
#include "aviary/simd/xsimd.hpp"

namespace AVIARY_NAMESPACE::simd {

template <class P> struct Pack;

namespace detail {
/// The bits of a number, and what moves a whole number to the place of the exponent among them, and back.
template <class T> struct Exponent {
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  static constexpr int fraction = std::numeric_limits<T>::digits - 1;
  static constexpr T bias = T(std::numeric_limits<T>::max_exponent - 1);
  static constexpr T unit = T(Bits(1) << fraction);  // its last bit is worth 1
  static constexpr T shift = T(1.5) * unit + bias;   // n + shift ends with the bits of n + bias
};
}  // namespace detail

/// e^x = (1 + growth(x, n)) 2^n  with the whole number  n = power(x). Errors are in units of the last place.
/// With -ffast-math compilers compute (x + c) - c as x, and x - n a - n b as x - n (a + b), where the rounding is the very
/// point: there the sum or the difference in the middle is opaque to them.
template <class P> struct Exponential {
  using L = Pack<P>;
  using T = typename L::value_type;

  /// x / ln 2 rounded to a whole number, for |x| <= 1e6.
  AVIARY_HOST_DEVICE static AVIARY_INLINE P power(P const& x) noexcept {
    P const rounding(T(1.5) * detail::Exponent<T>::unit);  // sums with it have no digits after the point
    return L::opaque(L::fma(x, P(std::numbers::log2e_v<T>), rounding)) - rounding;
  }

  /// Between -0.3 and 0.42.  Error: 1 ulp.
  AVIARY_HOST_DEVICE static AVIARY_INLINE P growth(P const& x, P const& n) noexcept {
    constexpr int last = sizeof(T) == 4 ? 7 : 13;  // what is left out is below a tenth of the last bit
    P const rest = L::fma(n, P(-ln_2_low), L::opaque(L::fma(n, P(-ln_2), x)));
    return L::fma(rest * rest, series<2, last>(rest), rest);
  }

  /// e^x. 0 where it is below the smallest normal number, infinity where x > (128 - 1/2) ln 2 in float, (1024 - 1/2) ln 2 in
  /// double: a little below the end of the range.  Error: 2 ulp.
  AVIARY_HOST_DEVICE static AVIARY_INLINE P exp(P const& x) noexcept {
    P const n = power(x), y = L::scale(P(T(1)) + growth(x, n), n);
    return L::select(x < P(lowest), P(T(0)), L::select(P(highest) < x, infinity(), y));
  }

  /// e^x for x <= 0: a decay. 0 where it is below the smallest normal number.  Error: 2 ulp.
  AVIARY_HOST_DEVICE static AVIARY_INLINE P decay(P const& x) noexcept {
    P const n = power(x);
    return L::select(x < P(lowest), P(T(0)), L::scale(P(T(1)) + growth(x, n), n));
  }

  /// e^x - 1, and infinity where exp is.  Error: 2 ulp.
  AVIARY_HOST_DEVICE static AVIARY_INLINE P expm1(P const& x) noexcept {
    P const n = power(x), whole = L::scale(P(T(1)), n), y = L::fma(whole, growth(x, n), whole - P(T(1)));
    return L::select(x < P(T(-64)), P(T(-1)), L::select(P(highest) < x, infinity(), y));  // e^-64 is nothing beside 1
  }

  /// log(x) for 0 < x < 1e30, a normal number.  Error: 2 ulp.
  AVIARY_HOST_DEVICE static AVIARY_INLINE P log(P const& x) noexcept {
    // x = (1 + f) 2^n with 1 + f between sqrt(1/2) and sqrt(2), and log(1 + f) = f - f^2/2 + s (f^2/2 + rest)
    P const n = L::opaque(L::exponent(x * P(std::numbers::sqrt2_v<T>)));
    P const f = L::scale(x, P(T(0)) - n) - P(T(1)), s = f / (f + P(T(2))), half_square = P(T(0.5)) * f * f;
    P const rest = s * s * odd_series < 3, sizeof(T) == 4 ? 11 : 23 > (s * s);
    P const logarithm = f - (half_square - s * (half_square + rest));
    return L::fma(n, P(ln_2), L::fma(n, P(ln_2_low), logarithm));
  }

  /// log(1 + x) for 0 <= x < 1e30.  Error: 2 ulp.
  AVIARY_HOST_DEVICE static AVIARY_INLINE P log1p(P const& x) noexcept {
    P const one(T(1)), sum = L::opaque(one + x);
    return log(sum) + (x - L::opaque(sum - one)) / sum;
  }

  /// (e^2x - 1) / (e^2x + 1).  Error: 4 ulp.
  AVIARY_HOST_DEVICE static AVIARY_INLINE P tanh(P const& x) noexcept {
    P const e = expm1(L::min(P(T(64)), x + x));  // from 32 on it is 1
    return e / (e + P(T(2)));
  }

 private:
  // ln 2 in two parts: products of the first with whole numbers are exact.
  static constexpr T ln_2 = sizeof(T) == 4 ? T(0.693359375) : T(6.93147180369123816490e-01);
  static constexpr T ln_2_low = sizeof(T) == 4 ? T(-2.12194440054690583e-4) : T(1.90821492927058770002e-10);
  static constexpr T lowest = aviary::detail::log_of_smallest<T>;
  static constexpr T highest = (T(std::numeric_limits<T>::max_exponent) - T(0.5)) * std::numbers::ln2_v<T>;
  AVIARY_HOST_DEVICE static AVIARY_INLINE P infinity() noexcept { return P(std::numeric_limits<T>::infinity()); }

  AVIARY_HOST_DEVICE static constexpr T inverse_factorial(int n) noexcept {
    return n < 2 ? T(1) : inverse_factorial(n - 1) / T(n);
  }
  /// 1/n! + x/(n + 1)! + ... + x^(last - n)/last!
  template <int n, int last> AVIARY_HOST_DEVICE static AVIARY_INLINE P series(P const& x) noexcept {
    constexpr T first = inverse_factorial(n);
    if constexpr (n == last)
      return P(first);
    else
      return L::fma(x, series<n + 1, last>(x), P(first));
  }
  /// 2/n + 2 x/(n + 2) + ... + 2 x^((last - n)/2)/last
  template <int n, int last> AVIARY_HOST_DEVICE static AVIARY_INLINE P odd_series(P const& x) noexcept {
    if constexpr (n == last)
      return P(T(2) / T(n));
    else
      return L::fma(x, odd_series<n + 2, last>(x), P(T(2) / T(n)));
  }
};

}  // namespace AVIARY_NAMESPACE::simd

#if !AVIARY_DEVICE_COMPILER
namespace AVIARY_NAMESPACE::detail {
template <class T, class A> struct Elementary<xsimd::batch<T, A>> : simd::Exponential<xsimd::batch<T, A>> {
  using P = xsimd::batch<T, A>;
  static AVIARY_INLINE P select(typename P::batch_bool_type const& condition, P const& yes, P const& no) noexcept {
    return xsimd::select(condition, yes, no);
  }
};
}  // namespace AVIARY_NAMESPACE::detail
#endif
