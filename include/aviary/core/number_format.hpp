#pragma once
/// The formats that numbers are kept in, by sequences, weights, caches and files alike: their names, sizes and C++ types.
/// Arithmetic is float or double everywhere; core/convert.hpp converts.
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <type_traits>

#include "aviary/core/config.hpp"

namespace AVIARY_NAMESPACE {

/// The upper half of a float: 8 bits of exponent, 7 of fraction. A relative rounding error of up to 2^-8.
struct bf16 {
  std::uint16_t bits;
  friend bool operator==(bf16, bf16) = default;
};

/// IEEE 754 binary16: 5 bits of exponent, 10 of fraction. Up to 65504; a relative rounding error of up to 2^-11.
struct f16 {
  std::uint16_t bits;
  friend bool operator==(f16, f16) = default;
};

/// A whole number of steps, -127 ... 127. The size of a step is a bf16 scale that a few neighbours share, chosen so that the
/// largest of them takes 127 steps; an error of up to 0.4% of that largest one. Whoever holds the numbers holds the scales.
struct q8 {
  std::int8_t steps;
  friend bool operator==(q8, q8) = default;
};

/// The same with -8 ... 7 steps. Two lie in a byte, so that there is no object of it: it is a name for what weights are kept as.
struct q4;

enum class NumberFormat : unsigned char { f64, f32, f16, bf16, q8, q4, i64, i32, u8 };

inline constexpr std::array all_number_formats{NumberFormat::f64,  NumberFormat::f32, NumberFormat::f16,
                                               NumberFormat::bf16, NumberFormat::q8,  NumberFormat::q4,
                                               NumberFormat::i64,  NumberFormat::i32, NumberFormat::u8};

/// The C++ types of floating numbers that stand for themselves, as sequences, weights and tensors hold them.
template <class T>
concept Stored =
    std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, bf16> || std::is_same_v<T, f16>;

/// Those of all formats.
template <class T>
concept Number = Stored<T> || std::is_same_v<T, q8> || std::is_same_v<T, std::int64_t> ||
    std::is_same_v<T, std::int32_t> || std::is_same_v<T, std::uint8_t>;

template <Number T>
inline constexpr NumberFormat format_of = std::is_same_v<T, double>         ? NumberFormat::f64
                                          : std::is_same_v<T, float>        ? NumberFormat::f32
                                          : std::is_same_v<T, f16>          ? NumberFormat::f16
                                          : std::is_same_v<T, bf16>         ? NumberFormat::bf16
                                          : std::is_same_v<T, q8>           ? NumberFormat::q8
                                          : std::is_same_v<T, std::int64_t> ? NumberFormat::i64
                                          : std::is_same_v<T, std::int32_t> ? NumberFormat::i32
                                                                            : NumberFormat::u8;

/// Bytes of one number; with q8 without its share of a scale; 0 for q4, as no number of it lies alone.
AVIARY_HOST_DEVICE constexpr std::size_t size_of(NumberFormat format) noexcept {
  return 0x148012248u >> 4 * static_cast<unsigned>(format) & 15u;  // in registers: rows of inputs are found with it
}

/// "f64", "f32", "f16", "bf16", "q8", "q4", "i64", "i32" or "u8": the name in messages and on command lines.
constexpr std::string_view name_of(NumberFormat format) noexcept {
  constexpr std::array<std::string_view, all_number_formats.size()> names{"f64", "f32", "f16", "bf16", "q8",
                                                                          "q4",  "i64", "i32", "u8"};
  return names[static_cast<std::size_t>(format)];
}

/// The format of a name; nothing if none is called so.
constexpr std::optional<NumberFormat> number_format(std::string_view name) noexcept {
  for (NumberFormat const format : all_number_formats)
    if (name_of(format) == name) return format;
  return std::nullopt;
}

}  // namespace AVIARY_NAMESPACE
