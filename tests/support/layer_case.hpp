#pragma once
/// Seeded weights and inputs for layers, and rows of numbers as views.
#include <span>
#include <vector>

#include "aviary/core/view.hpp"
#include "aviary/layers/token_shift.hpp"
#include "support/eager.hpp"
#include "support/random.hpp"

namespace aviary::test {

/// A matrix that owns its numbers.
template <class T> struct Matrix {
  Index rows, columns;
  std::vector<T> numbers;

  /// All numbers are the same.
  Matrix(Index r, Index c, T number = T(0)) : rows(r), columns(c), numbers(to_size(r * c), number) {}
  Matrix(Index r, Index c, Random& random, double scale = 1)
      : rows(r), columns(c), numbers(random.normals<T>(r * c, scale)) {}

  T& operator()(Index i, Index j) { return numbers[to_size(i * columns + j)]; }
  T const& operator()(Index i, Index j) const { return numbers[to_size(i * columns + j)]; }
  MatView<T> view() { return {numbers.data(), rows, columns}; }
  MatView<T const> view() const { return {numbers.data(), rows, columns}; }
  MatView<T const> rows_of(Index first, Index n) const { return view().rows(first, n); }
  friend bool operator==(Matrix const&, Matrix const&) = default;
};

/// The row before each row of x, where `first` is before the first.
template <class T> Matrix<T> before(MatView<T const> x, std::span<T const> first) {
  Matrix<T> rows(x.rows(), x.columns());
  rows_before(x, VecView<T const>(first.data(), x.columns()), rows.view());
  return rows;
}
/// The same, and keeps the last row for the next call.
template <class T> Matrix<T> before_and_keep(MatView<T const> x, std::vector<T>& last) {
  Matrix<T> const rows = before(x, std::span<T const>(last));
  if (x.rows() > 0) last.assign(x[x.rows() - 1].begin(), x[x.rows() - 1].end());
  return rows;
}

/// Where a sequence of 13 tokens is cut in tests of splits.
inline std::vector<std::vector<Index>> splits_of_13() {
  return {{13}, {1, 12}, {12, 1}, {4, 4, 5}, {0, 7, 0, 6}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}};
}

}  // namespace aviary::test
