#pragma once
/// Normalisations with weights: layer norm, and group norm per head. Those of rows are in functions.hpp.
#include <string>

#include "aviary/core/error.hpp"
#include "aviary/core/scratch.hpp"
#include "aviary/dense/rows.hpp"
#include "aviary/layers/functions.hpp"

namespace AVIARY_NAMESPACE {

/// Group norm with one group per head: each head's numbers get mean 0 and variance 1, then a weight and a bias per
/// channel. RWKV-5, 6 and 7 use it on what they read; released models have eps = 64e-5, some small RWKV-5 models 1e-5.
template <class T> class GroupNorm {
 public:
  /// Copies weight and bias (channels).
  /// @throws std::invalid_argument if the channels are no multiple of the heads, or weight and bias differ in size
  GroupNorm(VecView<T const> weight, VecView<T const> bias, Index heads, T eps = T(64e-5))
      : weight_(detail::copy_of(weight)), bias_(detail::copy_of(bias)), heads_(heads), eps_(eps) {
    if (heads <= 0 || weight.size() % heads != 0)
      detail::refuse("norm: " + std::to_string(weight.size()) + " channels do not make " + std::to_string(heads) +
                     " heads");
    detail::ExpectShapes{"norm"}("bias", bias, weight.size());
  }

  Index channels() const noexcept { return static_cast<Index>(weight_.size()); }

  /// Maps x (tokens, channels) to y (tokens, channels). y may be x.
  void operator()(MatView<T const> x, MatView<T> y) const noexcept {
    AVIARY_ASSERT(x.columns() == channels() && y.columns() == channels() && x.rows() == y.rows());
    Index const size = channels() / heads_;
    for (Index t = 0; t < x.rows(); ++t)
      for (Index at = 0; at < channels(); at += size)
        standardize<T>(x[t].segment(at, size), VecView<T const>(weight_).segment(at, size),
                       VecView<T const>(bias_).segment(at, size), eps_, y[t].segment(at, size));
  }

  /// The gradients, with x as it was before the norm, and dy what reached y: dx (tokens, channels), which may be dy or
  /// x; dweight and dbias (channels) are added to, row by row in order.
  /// Error: see standardize_gradient; sums over rows are plain.
  void backward(MatView<T const> x, MatView<T const> dy, MatView<T> dx, VecView<T> dweight,
                VecView<T> dbias) const noexcept {
    AVIARY_ASSERT(x.columns() == channels() && dy.columns() == channels() && dx.columns() == channels());
    AVIARY_ASSERT(x.rows() == dy.rows() && x.rows() == dx.rows());
    AVIARY_ASSERT(dweight.size() == channels() && dbias.size() == channels());
    Index const size = channels() / heads_;
    for (Index t = 0; t < x.rows(); ++t)
      for (Index at = 0; at < channels(); at += size)
        standardize_gradient<T>(x[t].segment(at, size), VecView<T const>(weight_).segment(at, size), eps_,
                                dy[t].segment(at, size), dx[t].segment(at, size), dweight.segment(at, size),
                                dbias.segment(at, size));
  }
  /// The same where not every gradient may be wanted. Scratch: backward_scratch_size() numbers.
  void backward(MatView<T const> x, MatView<T const> dy, MatView<T> dx, VecSink<T> dweight, VecSink<T> dbias,
                Scratch<T>& scratch) const noexcept {
    typename Scratch<T>::Frame const frame(scratch);
    auto const or_room = [&](VecSink<T> const& sink) -> VecView<T> {
      if (sink.wanted()) return sink;
      MatView<T> const row = scratch.rows(1, channels());
      detail::fill_rows(row, T(0));
      return row[0];
    };
    VecView<T> const to_weight = or_room(dweight), to_bias = or_room(dbias);
    backward(x, dy, dx, to_weight, to_bias);
  }
  /// The numbers of scratch that it needs, whatever the tokens.
  Index backward_scratch_size() const noexcept { return 2 * padded<T>(channels()); }

 private:
  AlignedVector<T> weight_, bias_;
  Index heads_;
  T eps_;
};

/// Layer norm of each row: a group norm with one group. RWKV uses eps = 1e-5 throughout.
template <class T> class LayerNorm : public GroupNorm<T> {
 public:
  LayerNorm(VecView<T const> weight, VecView<T const> bias, T eps = T(1e-5)) : GroupNorm<T>(weight, bias, 1, eps) {}
};

}  // namespace AVIARY_NAMESPACE
