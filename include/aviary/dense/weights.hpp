#pragma once
/// Matrices of weights: how a caller hands them to a layer, and how the layer keeps them.
#include <algorithm>

#include "aviary/core/storage.hpp"
#include "aviary/core/view.hpp"

namespace aviary {

/// How a layer keeps its matrices in memory. Decoding one token costs about as much time as reading them. Sums
/// are in the layer's own number type whatever the format.
enum class WeightFormat : unsigned char {
  exact,  ///< the smallest of bf16, f16 and full that keeps every number as it is: released models are mostly bf16
  full,   ///< the layer's own number type
  bf16,   ///< 2 bytes a number; exact where the numbers given are bf16
  f16,    ///< 2 bytes a number; exact where the numbers given are f16
  q8,  ///< 17/16 bytes: -127 ... 127 times a bf16 scale, one for 32 inputs of an output; within 0.4% of the largest of 32
};

/// A matrix of numbers of any storage type that somebody else owns. Rows are contiguous.
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
        storage_(storage_of<std::remove_const_t<S>>) {}

  Index rows() const noexcept { return rows_; }
  Index columns() const noexcept { return columns_; }

  /// to[i] = number (row, first + i), for n numbers.
  template <Stored T> void read(Index row, Index first, Index n, T* to) const noexcept {
    AVIARY_ASSERT(row >= 0 && row < rows_ && first >= 0 && n >= 0 && first + n <= columns_);
    with_type(storage_, data_, [&](auto const* from) noexcept { convert(from + row * stride_ + first, to, n); });
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
  Storage storage_ = Storage::f32;
};

/// The format that a layer of type T keeps these weights in: `format`, or what WeightFormat::exact comes to.
template <class T> WeightFormat resolve(WeightFormat format, WeightMatrix const& weights) noexcept {
  if (format != WeightFormat::exact) return format;
  if (weights.fits<bf16, T>()) return WeightFormat::bf16;
  return weights.fits<f16, T>() ? WeightFormat::f16 : WeightFormat::full;
}

}  // namespace aviary
