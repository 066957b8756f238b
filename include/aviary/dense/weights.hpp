#pragma once
/// Matrices of weights: how a caller hands them to a layer, and how the layer keeps them.
#include <algorithm>
#include <array>
#include <optional>
#include <string>
#include <string_view>

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
    if (format_ == format_of<S>) return true;
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

/// How many bits of an input enter a product of a layer of floats. Fewer are faster where the processor has a unit for them
/// and the flags of the build allow it; elsewhere, and in layers of double, the arithmetic is the full one.
///
///            weights kept as bf16, with AMX    as q8 or q4                              otherwise
///   full     floats                            floats                                   floats
///   bits16   two bf16                          one bf16 times the bf16 nearest to the   floats
///                                              weight with AMX, else floats
///   bits8    one bf16                          8-bit integers, a scale for 32 inputs    floats
///
/// bits16 is the fastest way to read a prompt, and needs 16 rows or more to pay; with q8 and q4 bits8 is the fastest way to
/// decode. The error of an output beside that of summation, which is at most (in + 8) 2^-24 sum |w||x|, and measured as a
/// root mean square over that of the outputs, for 768 normally distributed inputs and weights; weights are those that are
/// kept:
///
///   full     none                                                                  5e-7
///   bits16   bf16: 2^-16 sum |w||x|                                                2.5e-6
///            q8, q4: 2^-7 sum |w||x|                                               2.3e-3
///   bits8    bf16: 2^-8 sum |w||x|                                                 1.7e-3
///            q8, q4: sum |w| half a step, 1/254 of the largest of 32 inputs        5.3e-3
///
/// Keeping the weights costs more than that (bf16 1.6e-3, q8 5.5e-3, q4 8.2e-2). Both together: q8 5.5e-3, with bits16
/// 5.9e-3, with bits8 7.5e-3. Logits of small trained models (RWKV-4, 6, 7; root mean square over their spread): bf16 up to
/// 1.8e-3, with bits16 the same, with bits8 2.4e-3; q8 3.0 to 4.5e-3, with bits16 3.5 to 4.9e-3, with bits8 3.7 to 6.0e-3;
/// q4 with a head of q8 0.7 to 2.5e-2, with bits16 the same to 3%, with bits8 0.8 to 2.4e-2.
///
/// With bits8 a row that has a NaN or an infinity is NaN; with bits16 it is not finite.
enum class Arithmetic : unsigned char { full, bits16, bits8 };

inline constexpr std::array all_arithmetics{Arithmetic::full, Arithmetic::bits16, Arithmetic::bits8};

/// "full", "bits16" or "bits8".
constexpr std::string_view name_of(Arithmetic arithmetic) noexcept {
  return arithmetic == Arithmetic::full ? "full" : arithmetic == Arithmetic::bits16 ? "bits16" : "bits8";
}

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

  /// The number format, unless a policy chooses it.
  constexpr std::optional<NumberFormat> fixed() const noexcept {
    return policy_ == Policy::fixed ? std::optional(format_) : std::nullopt;
  }

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
