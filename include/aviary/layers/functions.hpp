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
///
/// Beside every normalisation NAME stands NAME_gradient, as in core/math.hpp: it takes the row before the normalisation
/// and dy, what reached the row after it, and writes dx, what reaches the row before it. dx may be dy, or x.
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

/// The gradient of scale(x) x, where the scale's own is  -slope scale^2 x:  dx = scale (dy - x (x . dy) scale slope).
template <class T>
void scale_gradient(VecView<T const> x, VecView<T const> dy, T scale, T slope, VecView<T> dx) noexcept {
  AVIARY_ASSERT(dy.size() == x.size() && dx.size() == x.size());
  T const product = simd::sum(
      x.size(), [](auto const& e, auto const& d) { return e * d; }, x.data(), dy.data());
  simd::transform(
      x.size(), dx.data(),
      [scale, along = -(product * scale * slope)](auto const& e, auto const& d) {
        using P = std::remove_cvref_t<decltype(e)>;
        return P(scale) * simd::Pack<P>::fma(e, P(along), d);
      },
      x.data(), dy.data());
}

/// The mean of a row, and 1 / sqrt(its biased variance + eps).
template <class T> struct Spread { T mean, scale; };
template <class T> Spread<T> spread_of(VecView<T const> x, T eps) noexcept {
  Index const n = x.size();
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
  return {mean, T(1) / std::sqrt(square / static_cast<T>(n) + eps)};
}
}  // namespace detail

/// x = x / max(|x|, least): the removal key of WKV-7. Zeros stay zeros.
template <class T> void normalize_max(VecView<T> x, T least = T(1e-12)) noexcept {
  detail::scale(x, T(1) / std::max(std::sqrt(detail::sum_of_squares<T>(x)), least));
}

/// dx = (dy - y (y . dy)) / |x|, y = x / |x|; dy / least where |x| is not above that. So zeros have a large gradient.
/// Error: (n + 10) eps |dy| / |x| for a row of n numbers.
template <class T>
void normalize_max_gradient(VecView<T const> x, VecView<T const> dy, VecView<T> dx, T least = T(1e-12)) noexcept {
  T const length = std::sqrt(detail::sum_of_squares<T>(x)), scale = T(1) / std::max(length, least);
  detail::scale_gradient(x, dy, scale, length > least ? scale : T(0), dx);
}

/// x = x / sqrt(|x|^2 + eps): queries and keys of the delta family in its published layers. Their length is below 1, by
/// about eps / 2 for a row of length 1.
template <class T> void normalize_plus(VecView<T> x, T eps = T(1e-6)) noexcept {
  detail::scale(x, T(1) / std::sqrt(detail::sum_of_squares<T>(x) + eps));
}

/// dx = (dy - y (y . dy)) / m, y = x / m, m = sqrt(|x|^2 + eps).  Error: (n + 10) eps |dy| / m.
template <class T>
void normalize_plus_gradient(VecView<T const> x, VecView<T const> dy, VecView<T> dx, T eps = T(1e-6)) noexcept {
  T const scale = T(1) / std::sqrt(detail::sum_of_squares<T>(x) + eps);
  detail::scale_gradient(x, dy, scale, scale, dx);
}

/// x = x / (sqrt(|x|^2 / n) + eps) for n numbers, whose root mean square becomes 1: the keys and values of GoldFinch before
/// their token shift.
template <class T> void normalize_rms(VecView<T> x, T eps = T(1e-8)) noexcept {
  detail::scale(x, T(1) / (std::sqrt(detail::sum_of_squares<T>(x) / static_cast<T>(x.size())) + eps));
}

/// dx = (dy - y (x . dy) / (n rms)) / (rms + eps), y = x / (rms + eps); dy / eps where x is zero.
/// Error: (n + 10) eps' |dy| / (rms + eps), eps' that of T.
template <class T>
void normalize_rms_gradient(VecView<T const> x, VecView<T const> dy, VecView<T> dx, T eps = T(1e-8)) noexcept {
  T const n = static_cast<T>(x.size()), rms = std::sqrt(detail::sum_of_squares<T>(x) / n);
  detail::scale_gradient(x, dy, T(1) / (rms + eps), rms > T(0) ? T(1) / (n * rms) : T(0), dx);
}

/// y = (x - mean(x)) / sqrt(var(x) + eps) weight + bias, with the biased variance: what GroupNorm and LayerNorm do to a
/// row. y may be x.
template <class T>
void standardize(VecView<T const> x, VecView<T const> weight, VecView<T const> bias, T eps, VecView<T> y) noexcept {
  Index const n = x.size();
  AVIARY_ASSERT(weight.size() == n && bias.size() == n && y.size() == n);
  auto const [mean, scale] = detail::spread_of(x, eps);
  simd::transform(
      n, y.data(),
      [mean = mean, scale = scale](auto const& e, auto const& w, auto const& b) {
        using P = std::remove_cvref_t<decltype(e)>;
        return simd::Pack<P>::fma((e - P(mean)) * P(scale), w, b);
      },
      x.data(), weight.data(), bias.data());
}

/// With z = (x - mean(x)) scale, scale = 1 / sqrt(var(x) + eps) and g = weight dy:
///   dx = scale (g - mean(g) - z mean(g z))      dweight += dy z      dbias += dy
/// Error of dx: (n + 10) eps' scale max |g| for a row of n numbers, eps' that of T, and what the mean's own rounding
/// costs where it is large beside the deviation.
/// @param dweight, dbias  (n), added to, so that rows in turn give their sum. They overlap nothing else
template <class T>
void standardize_gradient(VecView<T const> x, VecView<T const> weight, T eps, VecView<T const> dy, VecView<T> dx,
                          VecView<T> dweight, VecView<T> dbias) noexcept {
  Index const n = x.size();
  AVIARY_ASSERT(weight.size() == n && dy.size() == n && dx.size() == n && dweight.size() == n && dbias.size() == n);
  auto const [mean, scale] = detail::spread_of(x, eps);
  auto const z = [mean = mean, scale = scale](auto const& e) {
    using P = std::remove_cvref_t<decltype(e)>;
    return (e - P(mean)) * P(scale);
  };
  T const mean_g = simd::sum(
                       n, [](auto const& d, auto const& w) { return d * w; }, dy.data(), weight.data()) /
                   static_cast<T>(n);
  T const mean_gz = simd::sum(
                        n, [&z](auto const& d, auto const& w, auto const& e) { return d * w * z(e); }, dy.data(),
                        weight.data(), x.data()) /
                    static_cast<T>(n);
  simd::transform(
      n, dweight.data(),
      [&z](auto const& sum, auto const& d, auto const& e) {
        return simd::Pack<std::remove_cvref_t<decltype(e)>>::fma(d, z(e), sum);
      },
      dweight.data(), dy.data(), x.data());
  simd::transform(
      n, dbias.data(), [](auto const& sum, auto const& d) { return sum + d; }, dbias.data(), dy.data());
  simd::transform(
      n, dx.data(),
      [&z, mean_g, mean_gz, scale = scale](auto const& d, auto const& w, auto const& e) {
        using P = std::remove_cvref_t<decltype(e)>;
        return P(scale) * simd::Pack<P>::fma(-z(e), P(mean_gz), d * w - P(mean_g));
      },
      dy.data(), weight.data(), x.data());
}

/// Divides each head of each row, `size` numbers, by its Euclidean length: the removal keys of WKV-7.
template <class T> void normalize_heads(MatView<T> x, Index size) noexcept {
  for (Index t = 0; t < x.rows(); ++t)
    for (Index at = 0; at < x.columns(); at += size) normalize_max(x[t].segment(at, size));
}

/// normalize_max_gradient of each head of each row; all have the shape of x.
template <class T>
void normalize_heads_gradient(MatView<T const> x, Index size, MatView<T const> dy, MatView<T> dx) noexcept {
  AVIARY_ASSERT(dy.rows() == x.rows() && dx.rows() == x.rows());
  AVIARY_ASSERT(dy.columns() == x.columns() && dx.columns() == x.columns());
  for (Index t = 0; t < x.rows(); ++t)
    for (Index at = 0; at < x.columns(); at += size)
      normalize_max_gradient<T>(x[t].segment(at, size), dy[t].segment(at, size), dx[t].segment(at, size));
}

}  // namespace AVIARY_NAMESPACE
