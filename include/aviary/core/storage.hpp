#pragma once
/// Number types that only lie in memory (bf16, f16), and rows of numbers converted from one type to another.
/// Arithmetic is float or double everywhere; a conversion to a narrower type rounds to nearest, ties to even.
#include <cstdint>
#include <type_traits>

#include "aviary/core/config.hpp"

namespace aviary {

/// The upper half of a float: 8 bits of exponent, 7 of fraction. A relative rounding error of up to 2^-9.
struct bf16 {
  std::uint16_t bits;
  friend bool operator==(bf16, bf16) = default;
};

/// IEEE 754 binary16: 5 bits of exponent, 10 of fraction. Up to 65504; a relative rounding error of up to 2^-12.
struct f16 {
  std::uint16_t bits;
  friend bool operator==(f16, f16) = default;
};

namespace detail {
AVIARY_HOST_DEVICE constexpr std::uint32_t bits_of(float x) noexcept { return __builtin_bit_cast(std::uint32_t, x); }
AVIARY_HOST_DEVICE constexpr float float_of(std::uint32_t u) noexcept { return __builtin_bit_cast(float, u); }
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
  std::uint32_t const magnitude = shifted >= (31u << 23) ? special : shifted < (1u << 23) ? tiny : normal;
  return detail::float_of(magnitude | sign);
}
///@}

/// The nearest number of type T, ties to even. Too large a number becomes infinity; NaN stays NaN.
template <class T> AVIARY_HOST_DEVICE constexpr T narrow(double x) noexcept requires std::is_same_v<T, double> {
  return x;
}
template <class T> AVIARY_HOST_DEVICE constexpr T narrow(float x) noexcept requires std::is_same_v<T, bf16> {
  std::uint32_t const u = detail::bits_of(x);
  std::uint32_t const rounded = (u + 0x7fffu + ((u >> 16) & 1u)) >> 16;
  std::uint32_t const quiet = (u >> 16) | 0x40u;
  return {static_cast<std::uint16_t>(x == x ? rounded : quiet)};
}
template <class T> AVIARY_HOST_DEVICE constexpr T narrow(float x) noexcept requires std::is_same_v<T, f16> {
  std::uint32_t const u = detail::bits_of(x), sign = (u >> 16) & 0x8000u, magnitude = u & 0x7fffffffu;
  std::uint32_t const normal = (magnitude - (112u << 23) + 0xfffu + ((magnitude >> 13) & 1u)) >> 13;
  // A sum with 1/2 has its last bit at 2^-24, the last bit of a subnormal f16: the addition rounds.
  std::uint32_t const tiny = detail::bits_of(detail::float_of(magnitude) + 0.5f) - detail::bits_of(0.5f);
  std::uint32_t const special = magnitude > (255u << 23) ? 0x7e00u : 0x7c00u;
  std::uint32_t const bits = magnitude >= (143u << 23) ? special : magnitude < (113u << 23) ? tiny : normal;
  return {static_cast<std::uint16_t>(bits | sign)};
}
template <class T> AVIARY_HOST_DEVICE constexpr T narrow(double x) noexcept requires(!std::is_same_v<T, double>) {
  if constexpr (std::is_same_v<T, float>) {
    return static_cast<float>(x);
  } else {  // to odd in float first, so that the second rounding cannot meet a tie that the first one made
    float f = static_cast<float>(x);
    std::uint32_t const u = detail::bits_of(f);
    double const error = x - static_cast<double>(f);
    if (error != 0 && (u & 1u) == 0 && x == x && u << 1 < (255u << 24))
      f = detail::float_of((error > 0) == (f > 0) || (f == 0) ? u + 1 : u - 1);
    return narrow<T>(f);
  }
}
template <class T>
AVIARY_HOST_DEVICE constexpr T narrow(float x) noexcept
    requires(std::is_same_v<T, float> || std::is_same_v<T, double>) {
  return static_cast<T>(x);
}

/// The number types that a sequence may be stored in.
enum class Storage : unsigned char { f32, f64, bf16, f16 };

template <class T>
concept Stored =
    std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, bf16> || std::is_same_v<T, f16>;

template <Stored T>
inline constexpr Storage storage_of = std::is_same_v<T, float>    ? Storage::f32
                                      : std::is_same_v<T, double> ? Storage::f64
                                      : std::is_same_v<T, bf16>   ? Storage::bf16
                                                                  : Storage::f16;

/// Bytes of one number.
constexpr Index size_of(Storage s) noexcept { return s == Storage::f64 ? 8 : s == Storage::f32 ? 4 : 2; }

/// to[i] = from[i] for n numbers; the rows must not overlap. About 1 ns for 64 numbers.
template <Stored From, Stored To> void convert(From const* __restrict from, To* __restrict to, Index n) noexcept {
  for (Index i = 0; i < n; ++i) to[i] = narrow<To>(widen(from[i]));
}

/// Calls f(pointer) with the pointer in the type that its storage says.
template <class Void, class F> void with_type(Storage storage, Void* data, F&& f) noexcept {
  auto as = [&]<class T>(T*) { f(static_cast<std::conditional_t<std::is_const_v<Void>, T const, T>*>(data)); };
  switch (storage) {
    case Storage::f32:
      return as(static_cast<float*>(nullptr));
    case Storage::f64:
      return as(static_cast<double*>(nullptr));
    case Storage::bf16:
      return as(static_cast<bf16*>(nullptr));
    case Storage::f16:
      return as(static_cast<f16*>(nullptr));
  }
}

}  // namespace aviary
