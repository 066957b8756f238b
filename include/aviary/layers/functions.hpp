#pragma once
/// What published layers do to their numbers before a kernel takes them, and which model does what.
///
///   model                            log_w                                       queries and keys
///   WKV-4, WKV-5, WKV-6, Finch-C2    log_w_of_exponential(w_raw)                 as they are
///   WKV-7                            log_w_of_sigmoid(w_raw)                     normalize_max(kappa_hat)
///   linear attention                 none                                        q query_scale(K)
///   RetNet                           log_w_of_retnet(head)                       q query_scale(K)
///   GLA                              log_w_of_gla(x)                             q query_scale(K)
///   Mamba-2 as simple GLA            log_w_of_softplus(x, a_log, dt_bias)        as they are
///   DeltaNet                         none                                        normalize_plus(q), (k); q query_scale(K)
///   Gated DeltaNet, Comba            log_w_of_softplus(x, a_log, dt_bias)        the same
///   KDA                              log_w_of_softplus, per channel, or
///                                    log_w_of_bounded_sigmoid(..., -5)           the same
///
/// The gates and the scale are functions of a number or of a SIMD batch of numbers, in core/math.hpp. The normalisations
/// take a row. To apply a gate to a whole row, use simd::transform.
#include <algorithm>
#include <cmath>
#include <type_traits>

#include "aviary/core/math.hpp"
#include "aviary/core/view.hpp"
#include "aviary/simd/pack.hpp"

namespace AVIARY_NAMESPACE {

namespace detail {
template <class T> T sum_of_squares(VecView<T const> x) noexcept {
  return simd::sum(
      x.size(), [](auto const& e) { return e * e; }, x.data());
}
template <class T> void scale(VecView<T> x, T factor) noexcept {
  simd::transform(
      x.size(), x.data(), [factor](auto const& e) { return e * std::remove_cvref_t<decltype(e)>(factor); }, x.data());
}
}  // namespace detail

/// x = x / max(|x|, least): the removal key of WKV-7. Zeros stay zeros.
template <class T> void normalize_max(VecView<T> x, T least = T(1e-12)) noexcept {
  detail::scale(x, T(1) / std::max(std::sqrt(detail::sum_of_squares<T>(x)), least));
}

/// x = x / sqrt(|x|^2 + eps): queries and keys of the delta family in its published layers. Their length is below 1, by
/// about eps / 2 for a row of length 1.
template <class T> void normalize_plus(VecView<T> x, T eps = T(1e-6)) noexcept {
  detail::scale(x, T(1) / std::sqrt(detail::sum_of_squares<T>(x) + eps));
}

/// x = x / (sqrt(|x|^2 / n) + eps) for n numbers, whose root mean square becomes 1: the keys and values of GoldFinch before
/// their token shift.
template <class T> void normalize_rms(VecView<T> x, T eps = T(1e-8)) noexcept {
  detail::scale(x, T(1) / (std::sqrt(detail::sum_of_squares<T>(x) / static_cast<T>(x.size())) + eps));
}

/// y = (x - mean(x)) / sqrt(var(x) + eps) weight + bias, with the biased variance: what GroupNorm and LayerNorm do to a
/// row. y may be x.
template <class T>
void standardize(VecView<T const> x, VecView<T const> weight, VecView<T const> bias, T eps, VecView<T> y) noexcept {
  Index const n = x.size();
  AVIARY_ASSERT(weight.size() == n && bias.size() == n && y.size() == n);
  T const mean = simd::sum(
                     n, [](auto const& e) { return e; }, x.data()) /
                 static_cast<T>(n);
  T const square = simd::sum(
      n,
      [mean](auto const& e) {
        auto const d = e - std::remove_cvref_t<decltype(e)>(mean);
        return d * d;
      },
      x.data());
  T const scale = T(1) / std::sqrt(square / static_cast<T>(n) + eps);
  simd::transform(
      n, y.data(),
      [mean, scale](auto const& e, auto const& w, auto const& b) {
        using P = std::remove_cvref_t<decltype(e)>;
        return simd::Pack<P>::fma((e - P(mean)) * P(scale), w, b);
      },
      x.data(), weight.data(), bias.data());
}

/// Divides each head of each row, `size` numbers, by its Euclidean length: the removal keys of WKV-7.
template <class T> void normalize_heads(MatView<T> x, Index size) noexcept {
  for (Index t = 0; t < x.rows(); ++t)
    for (Index at = 0; at < x.columns(); at += size) normalize_max(x[t].segment(at, size));
}

}  // namespace AVIARY_NAMESPACE
