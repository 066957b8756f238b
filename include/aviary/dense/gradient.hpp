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

/// Rows l ... l + n - 1 of the weights that take l to outputs j ... j + 31, (l, j) numbers of T, as far as there are so many.
template <class T>
void read_panel(WeightMatrix const& w, WeightLayout layout, Index l, Index n, Index j, T* to) noexcept {
  using P = simd::Native<T>;
  constexpr Index lanes = simd::Pack<P>::lanes, depth = 64;
  if (layout == WeightLayout::out_in) {
    Index const columns = std::min(panel_outputs, w.columns() - j);
    for (Index at = 0; at < n; ++at) w.read(l + at, j, columns, to + at * panel_outputs);
    return;
  }
  T numbers[to_size(lanes)][to_size(depth)] = {};
  P packs[to_size(lanes)];
  for (Index at = 0; at < n; at += depth)
    for (Index o = 0; o < panel_outputs; o += lanes) {
      Index const count = std::min(depth, n - at);
      for (Index i = 0; i < std::min(lanes, w.rows() - j - o); ++i) w.read(j + o + i, l + at, count, numbers[i]);
      for (Index first = 0; first < count; first += lanes) {
        for (Index i = 0; i < lanes; ++i) packs[i] = simd::Pack<P>::load(numbers[i] + first);
        simd::transpose(packs);
        for (Index i = 0; i < std::min(lanes, count - first); ++i)
          simd::Pack<P>::store(to + (at + first + i) * panel_outputs + o, packs[i]);
      }
    }
}

}  // namespace detail

/// dx += dy W: what reaches the inputs of a linear map.
///   Cost: in * out multiply-adds a row, and weights are copied once, 16 KiB at a time. Stack: 80 KiB. It does not allocate.
/// @param w  the weights, in any storage     @param dy  (tokens, out)     @param dx  (tokens, in), overlaps none of these
template <class T, Executor E = Serial>
void add_input_gradient(WeightMatrix const& w, WeightLayout layout, MatView<T const> dy, MatView<T> dx,
                        E&& executor = {}) {
  Index const in = dx.columns(), panels = (in + detail::panel_outputs - 1) / detail::panel_outputs;
  AVIARY_ASSERT(dx.rows() == dy.rows());
  AVIARY_ASSERT(w.rows() == (layout == WeightLayout::out_in ? dy.columns() : in));
  AVIARY_ASSERT(w.columns() == (layout == WeightLayout::out_in ? in : dy.columns()));
  detail::share_out(executor, panels, dx.rows() * in * dy.columns(), [&](Index begin, Index end) noexcept {
    Index const first = begin * detail::panel_outputs;
    detail::PanelProduct<simd::Native<T>>::template add<false>(
        detail::columns_of(dx, first, std::min(end * detail::panel_outputs, in)), dy,
        [&](Index o, Index n, Index i, T* to) noexcept { detail::read_panel(w, layout, o, n, first + i, to); });
  });
}

/// dw += a^T b, if it is wanted: with a = dy and b = x what reaches the weights of a linear map that lie as (out, in), with
/// a = x and b = dy the weights that lie as (in, out).
///   Cost: one multiply-add a row for each weight. Stack: 64 KiB. It does not allocate.
/// @param a  (tokens, rows of dw)     @param b  (tokens, columns of dw)     @param dw  overlaps none of these
template <class T, Executor E = Serial>
void add_weight_gradient(MatView<T const> a, MatView<T const> b, MatSink<T> dw, E&& executor = {}) {
  if (!dw.wanted()) return;
  AVIARY_ASSERT(dw.rows() == a.columns() && dw.columns() == b.columns() && a.rows() == b.rows());
  detail::share_out(executor, dw.rows(), a.rows() * dw.rows() * dw.columns(), [&](Index begin, Index end) noexcept {
    detail::PanelProduct<simd::Native<T>>::template add<true>(
        dw.rows(begin, end - begin), detail::columns_of(a, begin, end), [&](Index t, Index n, Index j, T* to) noexcept {
          Index const columns = std::min(detail::panel_outputs, b.columns() - j);
          for (Index at = 0; at < n; ++at) std::copy_n(&b(t + at, j), columns, to + at * detail::panel_outputs);
        });
  });
}

}  // namespace AVIARY_NAMESPACE
