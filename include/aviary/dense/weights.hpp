#pragma once
/// Matrices of weights: how a caller hands them to a layer, and how the layer keeps them.
#include <algorithm>
#include <string>

#include "aviary/core/convert.hpp"
#include "aviary/core/error.hpp"
#include "aviary/core/view.hpp"

namespace AVIARY_NAMESPACE {

/// A matrix of numbers of any floating format that somebody else owns. Rows are contiguous.
class WeightMatrix {
 public:
  /// No matrix: 0 x 0.
  WeightMatrix() = default;

  template <class S>
  requires Stored<std::remove_const_t<S>> WeightMatrix(MatView<S> m)
  noexcept
      : data_(m.data()),
        rows_(m.rows()),
        columns_(m.columns()),
        stride_(m.stride()),
        format_(format_of<std::remove_const_t<S>>) {}

  Index rows() const noexcept { return rows_; }
  Index columns() const noexcept { return columns_; }

  /// to[i] = number (row, first + i), for n numbers.
  template <Stored T> void read(Index row, Index first, Index n, T* to) const noexcept {
    AVIARY_ASSERT(row >= 0 && row < rows_ && first >= 0 && n >= 0 && first + n <= columns_);
    with_type(format_, data_, [&](auto const* from) noexcept { convert(from + row * stride_ + first, to, n); });
  }

  /// Whether type S holds every number exactly, read as T.
  template <Stored S, Stored T> bool fits() const noexcept {
    constexpr Index block = 256;
    T numbers[block], back[block];
    S narrow[block];
    for (Index i = 0; i < rows_; ++i)
      for (Index j = 0; j < columns_; j += block) {
        Index const n = std::min(block, columns_ - j);
        read(i, j, n, numbers);
        convert(numbers, narrow, n);
        convert(narrow, back, n);
        if (!std::equal(numbers, numbers + n, back)) return false;
      }
    return true;
  }

 private:
  void const* data_ = nullptr;
  Index rows_ = 0, columns_ = 0, stride_ = 0;
  NumberFormat format_ = NumberFormat::f32;
};

/// How many bits of an input a product of a layer of floats takes. ARITHMETIC_DOC
enum class Arithmetic : unsigned char { full, bits16, bits8 };

/// How a layer keeps its matrices in memory: in a number format (bf16, f16, q8, q4 or the layer's own), or in the one that a
/// policy chooses; and how it multiplies by them. Decoding one token costs about as much time as reading the matrices.
/// 32 inputs of an output share a scale with q8, of which a number takes 17/16 bytes, and with q4, 9/16.
class WeightFormat {
 public:
  constexpr WeightFormat(NumberFormat format, Arithmetic arithmetic = Arithmetic::full) noexcept
      : format_(format), arithmetic_(arithmetic) {}

  /// The smallest of bf16, f16 and full that keeps every number as it is: released models are mostly bf16.
  static WeightFormat const exact;
  /// The layer's own number type.
  static WeightFormat const full;

  /// The same with another arithmetic.
  constexpr WeightFormat with(Arithmetic arithmetic) const noexcept {
    WeightFormat other = *this;
    other.arithmetic_ = arithmetic;
    return other;
  }
  constexpr Arithmetic arithmetic() const noexcept { return arithmetic_; }

  /// The format for a layer of numbers T and these weights.
  /// @throws std::invalid_argument for a format that no layer of T keeps
  template <class T> NumberFormat resolve(WeightMatrix const& weights) const;

  friend bool operator==(WeightFormat, WeightFormat) = default;

 private:
  enum class Policy : unsigned char { fixed, exact, full };

  constexpr explicit WeightFormat(Policy policy) noexcept : policy_(policy) {}

  Policy policy_ = Policy::fixed;
  NumberFormat format_ = NumberFormat::f32;  // if fixed
  Arithmetic arithmetic_ = Arithmetic::full;
};

inline constexpr WeightFormat WeightFormat::exact{Policy::exact};
inline constexpr WeightFormat WeightFormat::full{Policy::full};

template <class T> NumberFormat WeightFormat::resolve(WeightMatrix const& weights) const {
  NumberFormat const own = format_of<T>;
  if (policy_ == Policy::full) return own;
  if (policy_ == Policy::exact) {
    if (weights.fits<bf16, T>()) return NumberFormat::bf16;
    return weights.fits<f16, T>() ? NumberFormat::f16 : own;
  }
  for (NumberFormat const kept : {own, NumberFormat::bf16, NumberFormat::f16, NumberFormat::q8, NumberFormat::q4})
    if (format_ == kept) return kept;
  detail::refuse("a layer of " + std::string(name_of(own)) + " keeps its weights as " + std::string(name_of(own)) +
                 ", bf16, f16, q8 or q4, not as " + std::string(name_of(format_)));
}

}  // namespace AVIARY_NAMESPACE
