#pragma once
/// A tensor of a file: its name, number type and shape, and its bytes where they lie. Shared by all file formats.
#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <ranges>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "aviary/core/config.hpp"
#include "aviary/core/storage.hpp"
#include "aviary/io/message.hpp"

namespace aviary {

static_assert(std::endian::native == std::endian::little,
              "aviary: tensor files are little-endian, this machine is not");

/// The number types that a tensor of a file may have.
enum class DType : unsigned char { f64, f32, f16, bf16, i64, i32, u8 };

inline constexpr std::array all_dtypes{DType::f64, DType::f32, DType::f16, DType::bf16,
                                       DType::i64, DType::i32, DType::u8};

/// The C++ types of these numbers.
template <class T>
concept Element =
    Stored<T> || std::same_as<T, std::int64_t> || std::same_as<T, std::int32_t> || std::same_as<T, std::uint8_t>;

template <Element T>
inline constexpr DType dtype_of = std::is_same_v<T, double>         ? DType::f64
                                  : std::is_same_v<T, float>        ? DType::f32
                                  : std::is_same_v<T, f16>          ? DType::f16
                                  : std::is_same_v<T, bf16>         ? DType::bf16
                                  : std::is_same_v<T, std::int64_t> ? DType::i64
                                  : std::is_same_v<T, std::int32_t> ? DType::i32
                                                                    : DType::u8;

/// The name in files and messages: "F32", "BF16" ...
constexpr std::string_view name_of(DType dtype) noexcept {
  constexpr std::array<std::string_view, all_dtypes.size()> names{"F64", "F32", "F16", "BF16", "I64", "I32", "U8"};
  return names[static_cast<std::size_t>(dtype)];
}

/// Calls f.operator()<T>() with the C++ type T of the dtype.
template <class F> constexpr decltype(auto) with_element(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f64:
      return f.template operator()<double>();
    case DType::f32:
      return f.template operator()<float>();
    case DType::f16:
      return f.template operator()<f16>();
    case DType::bf16:
      return f.template operator()<bf16>();
    case DType::i64:
      return f.template operator()<std::int64_t>();
    case DType::i32:
      return f.template operator()<std::int32_t>();
    case DType::u8:
      break;
  }
  return f.template operator()<std::uint8_t>();
}

/// Bytes of one number.
constexpr std::size_t size_of(DType dtype) noexcept {
  return with_element(dtype, []<class T>() { return sizeof(T); });
}

namespace detail {

/// Whether numbers are read as another type: floating ones as any floating type, integers as a type that holds them all.
template <Element From, Element To>
inline constexpr bool readable = (Stored<From> && Stored<To>) || std::is_same_v<From, To> ||
                                 (!Stored<From> && !Stored<To> && sizeof(From) < sizeof(To));

/// The numbers of a tensor by their place in row-major order, wherever they lie.
template <Element T> struct Numbers {
  std::byte const* bytes;  ///< of number 0, on any boundary
  std::span<std::int64_t const> shape, strides;

  /// to[i] = number first + i.
  void load(std::size_t first, std::span<T> to) const noexcept {
    if (strides.empty()) return copy(bytes + first * sizeof(T), 1, to);
    auto const columns = static_cast<std::size_t>(shape.back()), stride = static_cast<std::size_t>(strides.back());
    while (!to.empty()) {
      std::size_t const column = first % columns, n = std::min(columns - column, to.size());
      copy(bytes + (row_offset(first / columns) + column * stride) * sizeof(T), stride, to.first(n));
      to = to.subspan(n);
      first += n;
    }
  }

 private:
  /// In numbers, of a row: all places in the sizes but the last.
  std::size_t row_offset(std::size_t row) const noexcept {
    std::size_t offset = 0;
    for (std::size_t axis = shape.size() - 1; axis-- > 0;) {
      auto const size = static_cast<std::size_t>(shape[axis]);
      offset += row % size * static_cast<std::size_t>(strides[axis]);
      row /= size;
    }
    return offset;
  }
  static void copy(std::byte const* from, std::size_t stride, std::span<T> to) noexcept {
    if (to.empty()) return;  // and there may be no bytes
    if (stride == 1) return static_cast<void>(std::memcpy(to.data(), from, to.size_bytes()));
    for (std::size_t i = 0; i < to.size(); ++i) std::memcpy(&to[i], from + i * stride * sizeof(T), sizeof(T));
  }
};

/// to[i] = number i.
template <Element From, Element To> void copy_numbers(Numbers<From> const& from, std::span<To> to) noexcept {
  if constexpr (std::is_same_v<From, To>) {
    from.load(0, to);
  } else {
    std::array<From, 256> block;
    for (std::size_t i = 0; i < to.size(); i += block.size()) {
      std::size_t const n = std::min(block.size(), to.size() - i);
      from.load(i, std::span(block).first(n));
      if constexpr (Stored<From>)
        convert(block.data(), to.data() + i, static_cast<Index>(n));
      else
        std::copy_n(block.data(), n, to.data() + i);
    }
  }
}

/// "F64, F32, F16, BF16": what can be read as T.
template <Element T> std::string dtypes_readable_as() {
  std::string out;
  for (DType const dtype : all_dtypes)
    if (with_element(dtype, []<class From>() { return readable<From, T>; }))
      (out += out.empty() ? "" : ", ") += name_of(dtype);
  return out;
}

/// The product of the sizes, or nothing if it does not fit 64 bits with sign. A size of 0 does not hide an overflow.
constexpr std::optional<std::int64_t> element_count(std::span<std::int64_t const> shape) noexcept {
  std::int64_t count = 1;
  for (std::int64_t const size : shape) {
    if (size < 0 || (size > 0 && count > INT64_MAX / size)) return std::nullopt;
    if (size > 0) count *= size;
  }
  return std::ranges::find(shape, 0) == shape.end() ? count : 0;
}

/// How many numbers lie from the first to the last of a tensor with these strides; none: row-major. Nothing if that, or
/// how many it holds, does not fit 64 bits with sign, or a size or stride is negative, or they differ in number.
constexpr std::optional<std::int64_t> extent_of(std::span<std::int64_t const> shape,
                                                std::span<std::int64_t const> strides) noexcept {
  std::optional<std::int64_t> const count = element_count(shape);
  if (strides.empty() || !count) return count;
  if (strides.size() != shape.size()) return std::nullopt;
  std::int64_t last = 0;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    std::int64_t const steps = std::max<std::int64_t>(shape[axis] - 1, 0), stride = strides[axis];
    if (stride < 0 || (steps > 0 && stride > (INT64_MAX - 1 - last) / steps)) return std::nullopt;
    last += steps * stride;
  }
  return *count > 0 ? last + 1 : 0;
}

}  // namespace detail

/// A view of a tensor: it owns nothing and is cheap to copy. What it was read from must outlive it.
/// Members that throw std::runtime_error blame the file; std::invalid_argument blames the caller. All texts read
/// "FILE: tensor 'NAME': what is wrong, expected and found".
struct Tensor {
  std::string_view name;
  DType dtype;
  std::span<std::int64_t const> shape;         ///< outermost first; empty for a single number
  std::span<std::byte const> bytes;            ///< little-endian, on any boundary, from the first to the last number
  std::string_view file = "memory";            ///< for messages
  std::span<std::int64_t const> strides = {};  ///< in numbers, from 0 on, one for each size; empty: row-major, no gaps

  /// How many numbers it holds. With strides that may be fewer or more than lie in its bytes.
  Index size() const noexcept {
    if (strides.empty()) return static_cast<Index>(bytes.size() / size_of(dtype));
    return static_cast<Index>(detail::element_count(shape).value_or(0));
  }

  /// This tensor, if it has the shape; a size of aviary::dynamic fits any. Else throws std::runtime_error.
  Tensor expect_shape(std::span<std::int64_t const> expected) const {
    auto const fits = [](std::int64_t want, std::int64_t have) { return want == dynamic || want == have; };
    if (!std::ranges::equal(expected, shape, fits))
      fail("expected shape " + detail::shape_text(expected) + ", found " + detail::shape_text(shape));
    return *this;
  }
  Tensor expect_shape(std::initializer_list<std::int64_t> expected) const {
    return expect_shape(std::span(expected.begin(), expected.size()));
  }

  /// Copies the numbers into a vector, array or span of exactly size() numbers. Floating dtypes convert to any floating
  /// type (rounding to nearest), integers to integers that hold them all.
  /// Throws std::runtime_error for another dtype, std::invalid_argument for another size.
  template <std::ranges::contiguous_range R>
  requires Element<std::ranges::range_value_t<R>>
  void read_into(R&& to) const {
    using To = std::ranges::range_value_t<R>;
    std::span<To> const out(to);
    check_readable_as<To>();
    if (static_cast<Index>(out.size()) != size())
      throw std::invalid_argument(message("holds " + std::to_string(size()) + " numbers of shape " +
                                          detail::shape_text(shape) + ", the destination " +
                                          std::to_string(out.size())));
    with_element(dtype, [&]<class From>() {
      if constexpr (detail::readable<From, To>)
        detail::copy_numbers(detail::Numbers<From>{bytes.data(), shape, strides}, out);
    });
  }

  /// The same into a new vector.
  template <Element T> std::vector<T> read() const {
    check_readable_as<T>();  // before allocating
    std::vector<T> out(static_cast<std::size_t>(size()));
    read_into(out);
    return out;
  }

  /// The numbers where they lie, without a copy; nothing if they have another type, lie on another boundary than T's, or
  /// have strides.
  template <Element T> std::optional<std::span<T const>> in_place() const noexcept {
    bool const aligned = std::bit_cast<std::uintptr_t>(bytes.data()) % alignof(T) == 0;
    if (dtype != dtype_of<T> || !aligned || !strides.empty()) return std::nullopt;
    return std::span(reinterpret_cast<T const*>(bytes.data()), static_cast<std::size_t>(size()));
  }

  /// "FILE: tensor 'NAME': what"
  std::string message(std::string const& what) const {
    return std::string(file) + ": tensor " + detail::in_quotes(name) + ": " + what;
  }

 private:
  [[noreturn]] void fail(std::string const& what) const { throw std::runtime_error(message(what)); }

  template <Element T> void check_readable_as() const {
    if (!with_element(dtype, []<class From>() { return detail::readable<From, T>; }))
      fail("expected dtype " + detail::dtypes_readable_as<T>() + ", found " + std::string(name_of(dtype)));
  }
};

}  // namespace aviary
