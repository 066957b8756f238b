#pragma once
/// A tensor of a file: its name, number format and shape, and its bytes where they lie. Shared by all formats of files.
#include <algorithm>
#include <array>
#include <bit>
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
#include "aviary/core/convert.hpp"
#include "aviary/core/view.hpp"
#include "aviary/io/block_format.hpp"
#include "aviary/io/message.hpp"

namespace AVIARY_NAMESPACE {

static_assert(std::endian::native == std::endian::little,
              "aviary: tensor files are little-endian, this machine is not");

/// The formats that the numbers of a tensor may have, its dtype.
inline constexpr std::array tensor_formats{NumberFormat::f64, NumberFormat::f32, NumberFormat::f16, NumberFormat::bf16,
                                           NumberFormat::i64, NumberFormat::i32, NumberFormat::u8};

/// The C++ types of these numbers.
template <class T>
concept Element = Number<T> && !std::is_same_v<T, q8>;

/// Calls f.operator()<T>() with the C++ type T of a dtype.
template <class F> constexpr decltype(auto) with_element(NumberFormat dtype, F&& f) {
  switch (dtype) {
    case NumberFormat::f64:
      return f.template operator()<double>();
    case NumberFormat::f32:
      return f.template operator()<float>();
    case NumberFormat::f16:
      return f.template operator()<f16>();
    case NumberFormat::bf16:
      return f.template operator()<bf16>();
    case NumberFormat::i64:
      return f.template operator()<std::int64_t>();
    case NumberFormat::i32:
      return f.template operator()<std::int32_t>();
    default:
      AVIARY_ASSERT(dtype == NumberFormat::u8);
      return f.template operator()<std::uint8_t>();
  }
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
  std::optional<BlockNumbers> blocks;  ///< none: they lie as they are

  /// to[i] = number first + i.
  void load(std::size_t first, std::span<T> to) const noexcept {
    if (strides.empty()) return copy(first, 1, to);
    auto const columns = static_cast<std::size_t>(shape.back()), stride = static_cast<std::size_t>(strides.back());
    while (!to.empty()) {
      std::size_t const column = first % columns, n = std::min(columns - column, to.size());
      copy(row_offset(first / columns) + column * stride, stride, to.first(n));
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
  /// Numbers `place`, place + stride ... of those that lie in the bytes.
  void copy(std::size_t place, std::size_t stride, std::span<T> to) const noexcept {
    if (to.empty()) return;  // and there may be no bytes
    if constexpr (std::is_same_v<T, float>)
      if (blocks) return blocks->decode(bytes, place, stride, to.data(), to.size());
    std::byte const* const from = bytes + place * sizeof(T);
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

/// "f64, f32, f16, bf16": the dtypes for which known(dtype).
template <class F> std::string list_dtypes(F&& known) {
  std::string out;
  for (NumberFormat const dtype : tensor_formats)
    if (known(dtype)) (out += out.empty() ? "" : ", ") += name_of(dtype);
  return out;
}
/// The same for all dtypes.
inline std::string list_dtypes() {
  return list_dtypes([](NumberFormat) { return true; });
}
/// What can be read as T.
template <Element T> std::string dtypes_readable_as() {
  return list_dtypes(
      [](NumberFormat dtype) { return with_element(dtype, [&]<class From>() { return readable<From, T>; }); });
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

/// Whether a tensor of these strides lies as if it had none. The stride of a size of 1 says nothing.
constexpr bool is_row_major(std::span<std::int64_t const> shape, std::span<std::int64_t const> strides) noexcept {
  if (strides.empty() || std::ranges::find(shape, 0) != shape.end()) return true;
  std::int64_t expected = 1;
  for (std::size_t axis = shape.size(); axis-- > 0;) {
    if (shape[axis] != 1 && strides[axis] != expected) return false;
    expected *= shape[axis];
  }
  return true;
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
  NumberFormat dtype;
  std::span<std::int64_t const> shape;         ///< outermost first; empty for a single number
  std::span<std::byte const> bytes;            ///< little-endian, on any boundary, from the first to the last number
  std::string_view file = "memory";            ///< for messages
  std::span<std::int64_t const> strides = {};  ///< in numbers, from 0 on, one for each size; empty: row-major, no gaps
  std::optional<BlockNumbers> blocks = {};  ///< its numbers lie in blocks, `bytes` are all of these, and dtype is f32
  std::string_view stored_name = {};        ///< what the file calls it, if that is another name

  /// How many numbers it holds. With strides that may be fewer or more than lie in its bytes.
  Index size() const noexcept {
    if (strides.empty() && !blocks) return static_cast<Index>(bytes.size() / size_of(dtype));
    return static_cast<Index>(detail::element_count(shape).value_or(0));
  }

  /// "q4_0": what its numbers lie as. They are read as those of dtype.
  std::string_view format_name() const noexcept { return blocks ? block_format_name(blocks->format) : name_of(dtype); }
  /// Bytes that its numbers take in the file; shared ones are counted again.
  std::size_t stored_size() const noexcept {
    auto const numbers = static_cast<std::size_t>(size());
    if (!blocks) return numbers * size_of(dtype);
    auto const [per_block, bytes_of_block] = block_size(blocks->format);
    return (numbers + per_block - 1) / per_block * bytes_of_block;
  }

  /// This tensor, if it has the shape; a size of aviary::dynamic fits any. Else throws std::runtime_error.
  Tensor expect_shape(std::span<std::int64_t const> expected) const {
    auto const fits = [](std::int64_t want, std::int64_t have) { return want == dynamic || want == have; };
    if (!std::ranges::equal(expected, shape, fits))
      fail("expected shape " + shape_text(expected) + ", found " + shape_text(shape));
    return *this;
  }
  Tensor expect_shape(std::initializer_list<std::int64_t> expected) const {
    return expect_shape(std::span(expected.begin(), expected.size()));
  }

  /// This tensor, if its numbers have the format. Else throws std::runtime_error.
  Tensor expect_dtype(NumberFormat expected) const {
    if (dtype != expected)
      fail("expected dtype " + std::string(name_of(expected)) + ", found " + std::string(name_of(dtype)));
    return *this;
  }

  /// Part i of the first axis: number i of a vector, row i of a matrix, matrix i of several.
  /// Throws std::invalid_argument unless 0 <= i < shape[0].
  Tensor operator[](Index i) const {
    if (shape.empty() || i < 0 || i >= shape[0])
      throw std::invalid_argument(message("has no part " + std::to_string(i) + " in shape " + shape_text(shape)));
    Tensor part = *this;
    part.shape = shape.subspan(1);
    if (!strides.empty()) part.strides = strides.subspan(1);
    auto const numbers = [](std::optional<std::int64_t> n) { return static_cast<std::size_t>(n.value_or(0)); };
    std::size_t const stride = numbers(strides.empty() ? detail::element_count(part.shape) : strides[0]);
    if (blocks) {
      part.blocks->first += to_size(i) * stride;
      return part;
    }
    std::size_t const extent = numbers(detail::extent_of(part.shape, part.strides));
    part.bytes = bytes.subspan(to_size(i) * stride * size_of(dtype), extent * size_of(dtype));
    return part;
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
      throw std::invalid_argument(message("holds " + std::to_string(size()) + " numbers of shape " + shape_text(shape) +
                                          ", the destination " + std::to_string(out.size())));
    with_element(dtype, [&]<class From>() {
      if constexpr (detail::readable<From, To>)
        detail::copy_numbers(detail::Numbers<From>{bytes.data(), shape, strides, blocks}, out);
    });
  }

  /// The same into a new vector.
  template <Element T> std::vector<T> read() const {
    check_readable_as<T>();  // before allocating
    std::vector<T> out(static_cast<std::size_t>(size()));
    read_into(out);
    return out;
  }

  /// The numbers where they lie, in row-major order; nothing if they have another format, lie on another boundary than T's,
  /// have strides of another order, or lie in blocks.
  template <Element T> std::optional<std::span<T const>> in_place() const noexcept {
    if (blocks || dtype != format_of<T> || !is_aligned<T>() || !detail::is_row_major(shape, strides))
      return std::nullopt;
    return std::span(numbers<T>(), static_cast<std::size_t>(size()));
  }

  /// @name Views of the numbers where they lie
  /// Sizes of 1 may stand before the others in the shape. Each throws std::runtime_error where there is no such view, and
  /// says which shape, dtype, boundary or strides it expected and found; read() copies what these cannot show.
  ///@{
  /// The vector that a tensor [n] holds.
  template <Element T> VecView<T const> vector() const {
    Tensor const found = expect_dimensions(1).expect_dtype(format_of<T>).template expect_rows<T>();
    return {found.numbers<T>(), found.size()};
  }
  /// The matrix that a tensor [rows, columns] holds. Rows may lie apart.
  template <Element T> MatView<T const> matrix() const {
    Tensor const found = expect_dimensions(2).expect_dtype(format_of<T>).template expect_rows<T>();
    Index const rows = found.shape[0], columns = found.shape[1];
    return {found.numbers<T>(), rows, columns, found.strides.empty() || rows < 2 ? columns : found.strides[0]};
  }
  ///@}

  /// This tensor with so many dimensions, after sizes of 1 in front are dropped. Throws std::runtime_error if it has others.
  Tensor expect_dimensions(std::size_t dimensions) const {
    Tensor found = *this;
    while (found.shape.size() > dimensions && found.shape[0] == 1) found = found[0];
    if (found.shape.size() != dimensions)
      fail("expected " + std::to_string(dimensions) + (dimensions == 1 ? " dimension" : " dimensions") +
           ", found shape " + shape_text(shape));
    return found;
  }

  /// What keeps the rows of a tensor of one dimension or two from being seen where they lie, as numbers of T: blocks, a
  /// boundary or strides; empty: nothing.
  template <Element T> std::string obstacle_to_rows() const {
    if (blocks) return "expected numbers as they are, found blocks of " + std::string(format_name());
    if (!is_aligned<T>())
      return "expected numbers at an address that " + std::to_string(alignof(T)) +
             " divides, found one with a remainder of " + std::to_string(address() % alignof(T));
    if (detail::is_row_major(shape, strides)) return {};
    bool const contiguous = shape.back() == 1 || strides.back() == 1;
    bool const apart = shape.size() == 1 || shape[0] == 1 || strides[0] >= shape[1];
    return contiguous && apart ? "" : "expected rows of numbers side by side, found strides " + shape_text(strides);
  }

  /// Throws std::runtime_error unless numbers of the dtype can be read as T.
  template <Element T> void check_readable_as() const {
    if (!with_element(dtype, [&]<class From>() { return detail::readable<From, T>; }))
      fail("expected dtype " + detail::dtypes_readable_as<T>() + ", found " + std::string(name_of(dtype)));
  }

  /// "FILE: tensor 'NAME': what", or "FILE: tensor 'NAME' ('STORED NAME' in the file): what"
  std::string message(std::string const& what) const {
    std::string out = std::string(file) + ": tensor " + in_quotes(name);
    if (!stored_name.empty()) out.append(" (").append(in_quotes(stored_name)).append(" in the file)");
    return out.append(": ").append(what);
  }

 private:
  [[noreturn]] void fail(std::string const& what) const { throw std::runtime_error(message(what)); }

  std::uintptr_t address() const noexcept { return std::bit_cast<std::uintptr_t>(bytes.data()); }
  template <Element T> T const* numbers() const noexcept { return reinterpret_cast<T const*>(bytes.data()); }
  template <Element T> bool is_aligned() const noexcept { return address() % alignof(T) == 0; }
  template <Element T> Tensor const& expect_rows() const {
    if (std::string const obstacle = obstacle_to_rows<T>(); !obstacle.empty()) fail(obstacle);
    return *this;
  }
};

namespace detail {

/// Calls f(bytes) with the numbers of a tensor in row-major order, piece by piece. All pieces but the last have a number of
/// bytes that 4096 divides.
template <class F> void for_each_piece(Tensor const& tensor, F&& f) {
  if (tensor.strides.empty() && !tensor.blocks) return f(tensor.bytes);
  with_element(tensor.dtype, [&]<class T>() {
    Numbers<T> const numbers{tensor.bytes.data(), tensor.shape, tensor.strides, tensor.blocks};
    std::array<T, 4096> block;
    for (std::size_t i = 0, n = static_cast<std::size_t>(tensor.size()); i < n; i += block.size()) {
      std::span const part = std::span(block).first(std::min(block.size(), n - i));
      numbers.load(i, part);
      f(std::as_bytes(part));
    }
  });
}

}  // namespace detail

}  // namespace AVIARY_NAMESPACE
