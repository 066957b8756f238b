#pragma once
/// Gradients of linear maps, in plain matrices: what training updates lies row by row, not in panels.
///
///   y = W x, of rows:     dx += dy W        dW += dy^T x
///
/// Every number is the sum over rows or outputs in their order, whatever the executor.
#include <algorithm>

#include "aviary/core/executor.hpp"
#include "aviary/dense/linear.hpp"
#include "aviary/dense/product.hpp"
#include "aviary/dense/rows.hpp"
#include "aviary/dense/weights.hpp"

namespace AVIARY_NAMESPACE {

namespace detail {

/// A tile of weights as (outputs, inputs) numbers of T: what a product with rows of dy reads.
template <class T> class WeightTile {
 public:
  static constexpr Index size = 64;

  MatView<T const> read(WeightMatrix const& w, WeightLayout layout, Index output, Index outputs, Index input,
                        Index inputs) noexcept {
    if (layout == WeightLayout::out_in) {
      for (Index o = 0; o < outputs; ++o) w.read(output + o, input, inputs, numbers_ + o * size);
    } else {
      T row[size];
      for (Index i = 0; i < inputs; ++i) {
        w.read(input + i, output, outputs, row);
        for (Index o = 0; o < outputs; ++o) numbers_[o * size + i] = row[o];
      }
    }
    return {numbers_, outputs, inputs, size};
  }

 private:
  alignas(64) T numbers_[size * size];
};

}  // namespace detail

/// dx += dy W: what reaches the inputs of a linear map.
///   Cost: in * out multiply-adds a row, and each 64 x 64 weights are copied once. Stack: 32 KiB. It does not allocate.
/// @param w  the weights, in any storage     @param dy  (tokens, out)     @param dx  (tokens, in), overlaps none of these
template <class T, Executor E = Serial>
void add_input_gradient(WeightMatrix const& w, WeightLayout layout, MatView<T const> dy, MatView<T> dx,
                        E&& executor = {}) {
  using Tile = detail::WeightTile<T>;
  Index const in = dx.columns(), out = dy.columns();
  AVIARY_ASSERT(dx.rows() == dy.rows());
  AVIARY_ASSERT(w.rows() == (layout == WeightLayout::out_in ? out : in));
  AVIARY_ASSERT(w.columns() == (layout == WeightLayout::out_in ? in : out));
  detail::share_out(executor, (in + Tile::size - 1) / Tile::size, dx.rows() * in * out,
                    [&](Index begin, Index end) noexcept {
                      Tile tile;
                      for (Index i = begin * Tile::size; i < std::min(end * Tile::size, in); i += Tile::size) {
                        Index const inputs = std::min(Tile::size, in - i);
                        for (Index o = 0; o < out; o += Tile::size) {
                          Index const outputs = std::min(Tile::size, out - o);
                          add_product<simd::Native<T>>(detail::columns_of(dx, i, i + inputs),
                                                       Coefficients<T>(detail::columns_of(dy, o, o + outputs)),
                                                       tile.read(w, layout, o, outputs, i, inputs));
                        }
                      }
                    });
}

/// dw += a^T b, if it is wanted: with a = dy and b = x what reaches the weights of a linear map that lie as (out, in), with
/// a = x and b = dy the weights that lie as (in, out).
///   Cost: one multiply-add a row for each weight. It does not allocate.
/// @param a  (tokens, rows of dw)     @param b  (tokens, columns of dw)     @param dw  overlaps none of these
template <class T, Executor E = Serial>
void add_weight_gradient(MatView<T const> a, MatView<T const> b, MatSink<T> dw, E&& executor = {}) {
  if (!dw.wanted()) return;
  constexpr Index block = 128;  // rows that stay in cache while all tiles of dw go by
  AVIARY_ASSERT(dw.rows() == a.columns() && dw.columns() == b.columns() && a.rows() == b.rows());
  detail::share_out(executor, dw.rows(), a.rows() * dw.rows() * dw.columns(), [&](Index begin, Index end) noexcept {
    for (Index t = 0; t < a.rows(); t += block) {
      Index const count = std::min(block, a.rows() - t);
      add_product<simd::Native<T>>(dw.rows(begin, end - begin),
                                   Coefficients<T>(detail::columns_of(a.rows(t, count), begin, end)).transposed(),
                                   b.rows(t, count));
    }
  });
}

}  // namespace AVIARY_NAMESPACE
