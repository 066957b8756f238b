#pragma once
/// Normalisations of rows: layer norm, group norm per head, unit length per head.
#include <cmath>
#include <string>

#include "aviary/core/error.hpp"
#include "aviary/dense/rows.hpp"
#include "aviary/layers/functions.hpp"

namespace aviary {

namespace detail {
/// y = (x - mean(x)) / sqrt(var(x) + eps) weight + bias, with the biased variance; y may be x.
template <class T> void normalize(Index n, T const* x, T const* weight, T const* bias, T eps, T* y) noexcept {
  T const mean = simd::sum(
                     n, [](auto const& e) { return e; }, x) /
                 static_cast<T>(n);
  T const square = simd::sum(
      n,
      [mean](auto const& e) {
        auto const d = e - std::remove_cvref_t<decltype(e)>(mean);
        return d * d;
      },
      x);
  T const scale = T(1) / std::sqrt(square / static_cast<T>(n) + eps);
  simd::transform(
      n, y,
      [mean, scale](auto const& e, auto const& w, auto const& b) {
        using P = std::remove_cvref_t<decltype(e)>;
        return simd::Pack<P>::fma((e - P(mean)) * P(scale), w, b);
      },
      x, weight, bias);
}
}  // namespace detail

/// Group norm with one group per head: each head's numbers get mean 0 and variance 1, then a weight and a bias per
/// channel. RWKV-5, 6 and 7 use it on what they read; released models have eps = 64e-5, some small RWKV-5 models 1e-5.
template <class T> class GroupNorm {
 public:
  GroupNorm(VecView<T const> weight, VecView<T const> bias, Index heads, T eps = T(64e-5))
      : weight_(detail::copy_of(weight)), bias_(detail::copy_of(bias)), heads_(heads), eps_(eps) {
    if (heads <= 0 || weight.size() % heads != 0)
      detail::refuse("norm: " + std::to_string(weight.size()) + " channels do not make " + std::to_string(heads) +
                     " heads");
    detail::ExpectShapes{"norm"}("bias", bias, weight.size());
  }

  Index channels() const noexcept { return static_cast<Index>(weight_.size()); }

  /// x, y (tokens, channels); y may be x.
  void operator()(MatView<T const> x, MatView<T> y) const noexcept {
    AVIARY_ASSERT(x.columns() == channels() && y.columns() == channels() && x.rows() == y.rows());
    Index const size = channels() / heads_;
    for (Index t = 0; t < x.rows(); ++t)
      for (Index at = 0; at < channels(); at += size)
        detail::normalize(size, &x(t, at), weight_.data() + at, bias_.data() + at, eps_, &y(t, at));
  }

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

/// Divides each head of each row, `size` numbers, by its Euclidean length: the removal keys of WKV-7.
template <class T> void normalize_heads(MatView<T> x, Index size) noexcept {
  for (Index t = 0; t < x.rows(); ++t)
    for (Index at = 0; at < x.columns(); at += size) normalize_max(x[t].segment(at, size));
}

}  // namespace aviary
