#pragma once
/// Floating numbers converted from one format to another, one by one and in rows. A conversion to a narrower format rounds
/// to nearest, ties to even.
#include <cstdint>
#include <type_traits>

#include "aviary/core/number_format.hpp"

namespace AVIARY_NAMESPACE {

namespace detail {
AVIARY_HOST_DEVICE constexpr std::uint32_t bits_of(float x) noexcept { return __builtin_bit_cast(std::uint32_t, x); }
AVIARY_HOST_DEVICE constexpr std::uint64_t bits_of(double x) noexcept { return __builtin_bit_cast(std::uint64_t, x); }
AVIARY_HOST_DEVICE constexpr float float_of(std::uint32_t u) noexcept { return __builtin_bit_cast(float, u); }
AVIARY_HOST_DEVICE constexpr double float_of(std::uint64_t u) noexcept { return __builtin_bit_cast(double, u); }

/// Where sign, exponent and fraction lie: bits of the fraction, and what is added to the exponent of a number.
template <class T> struct Format;
template <> struct Format<double> { static constexpr int fraction = 52, bias = 1023; };
template <> struct Format<float> { static constexpr int fraction = 23, bias = 127; };
template <> struct Format<bf16> { static constexpr int fraction = 7, bias = 127; };
template <> struct Format<f16> { static constexpr int fraction = 10, bias = 15; };

/// The bits of a power of two, or of infinity.
template <class T> AVIARY_HOST_DEVICE constexpr auto power_of_two(int exponent) noexcept {
  return decltype(bits_of(T()))(exponent + Format<T>::bias) << Format<T>::fraction;
}

/// `a` where x < y, else b, for x and y without a highest bit. Arithmetic, and no comparison: of these compilers make
/// branches here, and then do not vectorise the loops around them.
template <class U> AVIARY_HOST_DEVICE constexpr U select_less(U x, U y, U a, U b) noexcept {
  using Signed = std::make_signed_t<U>;
  U const mask = static_cast<U>(static_cast<Signed>(x - y) >> (8 * sizeof(U) - 1));
  return b ^ ((a ^ b) & mask);
}

/// The nearest number of a 16-bit type, ties to even; into a format of the same exponents.
template <class T> AVIARY_HOST_DEVICE constexpr T narrow_fraction(float x) noexcept {
  std::uint32_t const u = bits_of(x);
  std::uint32_t const rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  std::uint32_t const quiet = (u >> 16) | 0x40u;
  return {static_cast<std::uint16_t>(select_less(255u << 23, u & 0x7fffffffu, quiet, rounded))};
}

/// The same into a format of fewer exponents.
template <class T, class From> AVIARY_HOST_DEVICE constexpr T narrow_exponent(From x) noexcept {
  using U = decltype(bits_of(x));
  using Wide = Format<From>;
  using Slim = Format<T>;
  constexpr int lost = Wide::fraction - Slim::fraction, rebias = Wide::bias - Slim::bias;
  constexpr U sign_bit = U(1) << (8 * sizeof(U) - 1), infinity = power_of_two<From>(Wide::bias + 1);
  constexpr U slim_infinity = U(2 * Slim::bias + 1) << Slim::fraction, slim_nan = slim_infinity | slim_infinity >> 1;
  U const u = bits_of(x), magnitude = u & ~sign_bit, sign = (u & sign_bit) >> (8 * sizeof(U) - 16);
  // A carry out of the fraction raises the exponent, as it should.
  U const half = (U(1) << (lost - 1)) - 1u + ((magnitude >> lost) & 1u);
  U const normal = (magnitude - (U(rebias) << Wide::fraction) + half) >> lost;
  // The last bit of a sum with this power of two is the last bit of a subnormal T: the addition rounds.
  constexpr U power = power_of_two<From>(1 - Slim::bias + lost);
  U const subnormal = bits_of(float_of(magnitude) + float_of(power)) - power;
  U const finite = select_less(magnitude, power_of_two<From>(1 - Slim::bias), subnormal, normal);
  U const special = select_less(infinity, magnitude, slim_nan, slim_infinity);
  U const bits = select_less(magnitude, power_of_two<From>(Slim::bias + 1), finite, special);
  return {static_cast<std::uint16_t>(bits | sign)};
}
}  // namespace detail

/// @name widen
/// The same number as float or double; exact, NaN and infinity included. Without branches, so that loops vectorise.
///@{
AVIARY_HOST_DEVICE constexpr float widen(float x) noexcept { return x; }
AVIARY_HOST_DEVICE constexpr double widen(double x) noexcept { return x; }
AVIARY_HOST_DEVICE constexpr float widen(bf16 x) noexcept { return detail::float_of(std::uint32_t{x.bits} << 16); }
AVIARY_HOST_DEVICE constexpr float widen(f16 x) noexcept {
  std::uint32_t const sign = (std::uint32_t{x.bits} & 0x8000u) << 16;
  std::uint32_t const shifted = (std::uint32_t{x.bits} & 0x7fffu) << 13;  // exponent and fraction in their float places
  std::uint32_t const normal = shifted + (112u << 23);                    // exponent bias 15 becomes 127
  std::uint32_t const special = normal + (112u << 23);                    // infinity and NaN: exponent 31 becomes 255
  std::uint32_t const tiny = detail::bits_of(detail::float_of(shifted + (113u << 23)) - 0x1p-14f);
  std::uint32_t const finite = detail::select_less(shifted, 1u << 23, tiny, normal);
  return detail::float_of(detail::select_less(shifted, 31u << 23, finite, special) | sign);
}
///@}

/// The nearest number of type T, ties to even. Too large a number becomes infinity; NaN stays NaN. Without branches.
template <class T, class From>
AVIARY_HOST_DEVICE constexpr T narrow(From x) noexcept
    requires(std::is_same_v<From, float> || std::is_same_v<From, double>) {
  if constexpr (std::is_same_v<T, bf16> && std::is_same_v<From, float>)
    return detail::narrow_fraction<T>(x);
  else if constexpr (sizeof(T) == 2)
    return detail::narrow_exponent<T>(x);
  else
    return static_cast<T>(x);
}

/// to[i] = from[i] for n numbers; the rows must not overlap. A row that keeps its type keeps its bits.
/// Cost: with AVX2 one instruction a number (bf16 to float) to six (float to f16); twelve from double to 16 bits.
template <Stored From, Stored To> void convert(From const* __restrict from, To* __restrict to, Index n) noexcept {
  if constexpr (std::is_same_v<From, To>) {
    for (Index i = 0; i < n; ++i) to[i] = from[i];
  } else {
    constexpr Index block = 16;  // a fixed number, which g++ vectorises at -O2 as well
    if (n < block) {
      for (Index i = 0; i < n; ++i) to[i] = narrow<To>(widen(from[i]));
      return;
    }
    // The last block ends with the row, and may begin within the block before it.
    for (Index i = 0, last = n - block;; i = i + block < last ? i + block : last) {
      for (Index l = 0; l < block; ++l) to[i + l] = narrow<To>(widen(from[i + l]));
      if (i == last) return;
    }
  }
}

/// Calls f(pointer) with the pointer in the C++ type of its floating format.
template <class Void, class F> void with_type(NumberFormat format, Void* data, F&& f) noexcept {
  auto as = [&]<class T>(T*) { f(static_cast<std::conditional_t<std::is_const_v<Void>, T const, T>*>(data)); };
  switch (format) {
    case NumberFormat::f32:
      return as(static_cast<float*>(nullptr));
    case NumberFormat::f64:
      return as(static_cast<double*>(nullptr));
    case NumberFormat::bf16:
      return as(static_cast<bf16*>(nullptr));
    case NumberFormat::f16:
      return as(static_cast<f16*>(nullptr));
    default:
      AVIARY_ASSERT(false);  // no Stored type has another format
  }
}

}  // namespace AVIARY_NAMESPACE
