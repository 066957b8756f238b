#pragma once
/// Small matrix products with lanes along the columns of the result: what segments and chunks are made of.
#include "aviary/core/view.hpp"
#include "aviary/simd/pack.hpp"

namespace aviary {

/// A matrix that is read one coefficient at a time: a(i, l) = data[i * row + l * column].
template <class T> struct Coefficients {
  T const* data;
  Index rows, columns, row, column;

  AVIARY_HOST_DEVICE constexpr Coefficients(T const* d, Index m, Index n, Index row_stride,
                                            Index column_stride) noexcept
      : data(d), rows(m), columns(n), row(row_stride), column(column_stride) {}
  AVIARY_HOST_DEVICE constexpr Coefficients(MatView<T const> m) noexcept
      : Coefficients(m.data(), m.rows(), m.columns(), m.stride(), 1) {}
  AVIARY_HOST_DEVICE constexpr T operator()(Index i, Index l) const noexcept { return data[i * row + l * column]; }
  AVIARY_HOST_DEVICE constexpr Coefficients transposed() const noexcept { return {data, columns, rows, column, row}; }
};

namespace detail {
/// Rows i ... i + rows - 1 and the lanes of Q from column n on.
template <class Q, int rows, class C, class T, class B>
AVIARY_HOST_DEVICE AVIARY_INLINE void add_product_block(MatView<C> c, Coefficients<T> a, MatView<B> b, Index i,
                                                        Index n) noexcept {
  using L = simd::Pack<Q>;
  Q sum[to_size(rows)];
  for (int m = 0; m < rows; ++m) sum[m] = simd::load_part<Q>(&c(i + m, 0), n, c.columns());
  for (Index l = 0; l < a.columns; ++l) {
    Q const x = simd::load_part<Q>(&b(l, 0), n, b.columns());
    for (int m = 0; m < rows; ++m) sum[m] = L::fma(x, Q(a(i + m, l)), sum[m]);
  }
  for (int m = 0; m < rows; ++m) simd::store_part(&c(i + m, 0), n, c.columns(), sum[m]);
}
}  // namespace detail

/// c += a b, in the order of a's columns.  c: M x N, a: M x L, b: L x N; c overlaps neither. Numbers of c and b may be stored
/// in other types than P's.  Cost: 2 L M N flops.
template <class P, class C, class T, class B>
AVIARY_HOST_DEVICE void add_product(MatView<C> c, Coefficients<T> a, MatView<B> b) noexcept {
  AVIARY_ASSERT(c.rows() == a.rows && c.columns() == b.columns() && a.columns == b.rows());
  simd::for_packs<P>(0, c.columns(), [&]<class Q>(Index n) {
    constexpr int rows = 4;
    Index const whole = c.rows() / rows * rows;
    for (Index i = 0; i < whole; i += rows) detail::add_product_block<Q, rows>(c, a, b, i, n);
    for (Index i = whole; i < c.rows(); ++i) detail::add_product_block<Q, 1>(c, a, b, i, n);
  });
}

}  // namespace aviary
