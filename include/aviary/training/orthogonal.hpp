#pragma once
/// Random orthogonal matrices: rows of length 1 at right angles, or columns where there are more rows.
#include <algorithm>
#include <cmath>

#include "aviary/core/aligned.hpp"
#include "aviary/core/view.hpp"
#include "aviary/training/random.hpp"

namespace AVIARY_NAMESPACE {

namespace detail {

/// x . y, summed in one order for every instruction set.
inline double ordered_dot(double const* x, double const* y, Index n) noexcept {
  constexpr Index parts = 8;
  double sums[parts] = {};
  Index i = 0;
  for (; i + parts <= n; i += parts)
    for (Index m = 0; m < parts; ++m) sums[m] = std::fma(x[i + m], y[i + m], sums[m]);
  for (Index m = 0; i < n; ++i, ++m) sums[m] = std::fma(x[i], y[i], sums[m]);
  return ((sums[0] + sums[1]) + (sums[2] + sums[3])) + ((sums[4] + sums[5]) + (sums[6] + sums[7]));
}

}  // namespace detail

/// Fills a matrix with a random orthogonal one times gain, evenly distributed over all of them: normal numbers, whose
/// shorter side is made orthogonal (Gram and Schmidt, modified), which is the QR decomposition with a positive diagonal.
///   Error: 1e-9 of the products of rows or columns, and the rounding to T. The bits are the same on every platform.
///   Cost: 2 rows * columns * the smaller of them multiply-adds. It allocates rows * columns doubles.
template <class T> void fill_orthogonal(MatView<T> to, double gain, SplitMix64& random) {
  bool const tall = to.rows() > to.columns();
  Index const count = tall ? to.columns() : to.rows(), size = tall ? to.rows() : to.columns();
  AlignedVector<double> numbers(to_size(count * size));
  for (double& e : numbers) e = random.normal();
  for (Index i = 0; i < count; ++i) {
    double* const unit = numbers.data() + i * size;
    double const length = std::sqrt(detail::ordered_dot(unit, unit, size));
    for (Index n = 0; n < size; ++n) unit[n] /= length;
    for (Index j = i + 1; j < count; ++j) {
      double* const other = numbers.data() + j * size;
      double const along = -detail::ordered_dot(unit, other, size);
      for (Index n = 0; n < size; ++n) other[n] = std::fma(along, unit[n], other[n]);
    }
  }
  for (Index i = 0; i < count; ++i)
    for (Index n = 0; n < size; ++n)
      (tall ? to(n, i) : to(i, n)) = static_cast<T>(gain * numbers[to_size(i * size + n)]);
}

}  // namespace AVIARY_NAMESPACE
