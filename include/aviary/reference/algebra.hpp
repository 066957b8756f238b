#pragma once
/// The linear algebra that references are written in, so that their lines are the lines of the papers:
///
///     S = S * (I - beta * k * transpose(k)) + beta * v * transpose(k);
///
/// Everything is a matrix that owns its numbers, a vector one of a single column; nothing is clever.
#include <cassert>
#include <cmath>
#include <vector>

#include "aviary/core/config.hpp"
#include "aviary/core/view.hpp"

namespace AVIARY_NAMESPACE::reference::detail {

template <class T> class Matrix {
 public:
  Matrix(Index rows, Index columns) : rows_(rows), columns_(columns), numbers_(to_size(rows * columns)) {}

  Index rows() const { return rows_; }
  Index columns() const { return columns_; }
  T& operator()(Index i, Index j) { return numbers_[to_size(i * columns_ + j)]; }
  T operator()(Index i, Index j) const { return numbers_[to_size(i * columns_ + j)]; }

 private:
  Index rows_, columns_;
  std::vector<T> numbers_;
};

/// The matrix of f(i, j).
template <class T, class F> Matrix<T> make(Index rows, Index columns, F&& f) {
  Matrix<T> m(rows, columns);
  for (Index i = 0; i < rows; ++i)
    for (Index j = 0; j < columns; ++j) m(i, j) = f(i, j);
  return m;
}

template <class T> Matrix<T> matrix(MatView<T const> x) {
  return make<T>(x.rows(), x.columns(), [&](Index i, Index j) { return x(i, j); });
}
template <class T> Matrix<T> column(VecView<T const> x) {
  return make<T>(x.size(), 1, [&](Index i, Index) { return x[i]; });
}
template <class T> Matrix<T> identity(Index n) {
  return make<T>(n, n, [](Index i, Index j) { return i == j ? T(1) : T(0); });
}
/// The square matrix with the numbers of a column on its diagonal.
template <class T> Matrix<T> diag(Matrix<T> const& x) {
  return make<T>(x.rows(), x.rows(), [&](Index i, Index j) { return i == j ? x(i, 0) : T(0); });
}
template <class T> Matrix<T> transpose(Matrix<T> const& x) {
  return make<T>(x.columns(), x.rows(), [&](Index i, Index j) { return x(j, i); });
}

template <class T> Matrix<T> operator+(Matrix<T> const& x, Matrix<T> const& y) {
  assert(x.rows() == y.rows() && x.columns() == y.columns());
  return make<T>(x.rows(), x.columns(), [&](Index i, Index j) { return x(i, j) + y(i, j); });
}
template <class T> Matrix<T> operator-(Matrix<T> const& x, Matrix<T> const& y) {
  assert(x.rows() == y.rows() && x.columns() == y.columns());
  return make<T>(x.rows(), x.columns(), [&](Index i, Index j) { return x(i, j) - y(i, j); });
}
template <class T> Matrix<T> operator*(T a, Matrix<T> const& x) {
  return make<T>(x.rows(), x.columns(), [&](Index i, Index j) { return a * x(i, j); });
}
template <class T> Matrix<T> operator*(Matrix<T> const& x, Matrix<T> const& y) {
  assert(x.columns() == y.rows());
  Matrix<T> product(x.rows(), y.columns());
  for (Index i = 0; i < x.rows(); ++i)
    for (Index m = 0; m < x.columns(); ++m)
      for (Index j = 0; j < y.columns(); ++j) product(i, j) += x(i, m) * y(m, j);
  return product;
}
/// x * y number by number.
template <class T> Matrix<T> elementwise(Matrix<T> const& x, Matrix<T> const& y) {
  assert(x.rows() == y.rows() && x.columns() == y.columns());
  return make<T>(x.rows(), x.columns(), [&](Index i, Index j) { return x(i, j) * y(i, j); });
}
using std::exp;  // of a number
template <class T> Matrix<T> exp(Matrix<T> const& x) {
  return make<T>(x.rows(), x.columns(), [&](Index i, Index j) { return exp(x(i, j)); });
}
/// The inner product of two columns.
template <class T> T dot(Matrix<T> const& x, Matrix<T> const& y) { return (transpose(x) * y)(0, 0); }

template <class T> void store(Matrix<T> const& x, MatView<T> to) {
  for (Index i = 0; i < x.rows(); ++i)
    for (Index j = 0; j < x.columns(); ++j) to(i, j) = x(i, j);
}
template <class T> void store(Matrix<T> const& x, VecView<T> to) {
  for (Index i = 0; i < x.rows(); ++i) to[i] = x(i, 0);
}

}  // namespace AVIARY_NAMESPACE::reference::detail
