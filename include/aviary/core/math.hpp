#pragma once
/// Elementwise functions of the models, for a number or for a SIMD batch of numbers: exp and tanh are found by the
/// argument's type. Errors are for float arguments; one ulp is 2^-23 of the value at most.
#include <cmath>

#include "aviary/core/config.hpp"
#include "aviary/core/view.hpp"

namespace aviary {

namespace detail {
/// The type of one number of P: of a batch its lanes', else P.
template <class P> struct NumberOf { using type = P; };
template <class P>
requires requires { typename P::value_type; }
struct NumberOf<P> {
  using type = typename P::value_type;
};
template <class P> using Number = typename NumberOf<P>::type;
}  // namespace detail

/// 1 / (1 + exp(-x)).  Error: 4 ulp. Exactly 0 below about -88 in float; never negative, never above 1.
template <class P> AVIARY_HOST_DEVICE inline P sigmoid(P const& x) noexcept {
  using std::exp;
  return P(1) / (P(1) + exp(-x));
}

/// x sigmoid(x), also called swish.  Error: 5 ulp.
template <class P> AVIARY_HOST_DEVICE inline P silu(P const& x) noexcept { return x * sigmoid(x); }

/// log(1 + exp(x)), computed as max(x, 0) + log1p(exp(-|x|)), which neither overflows nor loses small values.
/// Error: 3 ulp.
template <class P> AVIARY_HOST_DEVICE inline P softplus(P const& x) noexcept {
  using std::abs;
  using std::exp;
  using std::log1p;
  P const size = abs(x);
  return P(static_cast<detail::Number<P>>(0.5)) * (x + size) + log1p(exp(-size));
}

/// max(x, 0)^2.  NaN gives NaN.
template <class P> AVIARY_HOST_DEVICE inline P squared_relu(P const& x) noexcept {
  using std::abs;
  P const twice = x + abs(x);  // 2 max(x, 0), exactly
  return P(0.25) * twice * twice;
}

/// @name From a trained decay to log_w
/// Kernels take log_w <= 0, the logarithm of the decay factor. Each model generation has its own way from the number w_raw
/// that its layer computes (w0 + tanh(...) ... in WKV-6 and WKV-7, a weight in WKV-4 and WKV-5); they all stand here.
///@{

/// WKV-4, WKV-5, WKV-6:  log_w = -exp(w_raw), so w = exp(-exp(w_raw)) lies in [0, 1].  Error: 2 ulp of log_w.
template <class P> AVIARY_HOST_DEVICE inline P log_w_of_exponential(P const& w_raw) noexcept {
  using std::exp;
  return -exp(w_raw);
}

/// WKV-7:  log_w = -exp(-1/2) sigmoid(w_raw), so w lies in (0.5452, 1). The same as w = exp(-exp(-softplus(-w_raw) - 1/2)).
/// Published inference scripts round exp(-1/2) to 0.606531; this is the exact constant.  Error: 5 ulp of log_w.
template <class P> AVIARY_HOST_DEVICE inline P log_w_of_sigmoid(P const& w_raw) noexcept {
  return P(static_cast<detail::Number<P>>(-0.60653065971263342360)) * sigmoid(w_raw);
}

/// RetNet:  log_w = log(1 - 2^(-5 - head)) for head 0, 1, ... of every layer.
AVIARY_HOST_DEVICE inline double log_w_of_retnet(Index head) noexcept {
  return std::log1p(-std::exp2(-5.0 - static_cast<double>(head)));
}

/// GLA:  log_w = log(sigmoid(x)) / 16.  Error: 4 ulp, and never above 0.
template <class P> AVIARY_HOST_DEVICE inline P log_w_of_gla(P const& x) noexcept {
  return P(static_cast<detail::Number<P>>(-1.0 / 16)) * softplus(-x);
}

/// Gated DeltaNet (one number per head), KDA (one per channel), Mamba-2:  log_w = -exp(a_log) softplus(x + dt_bias), with
/// a_log and dt_bias the layer's parameters. Keep these in float at least.
template <class P>
AVIARY_HOST_DEVICE inline P log_w_of_softplus(P const& x, P const& a_log, P const& dt_bias) noexcept {
  using std::exp;
  return -exp(a_log) * softplus(x + dt_bias);
}

/// KDA, bounded below:  log_w = lower_bound sigmoid(exp(a_log) (x + dt_bias)), lower_bound < 0, usually -5.
template <class P>
AVIARY_HOST_DEVICE inline P log_w_of_bounded_sigmoid(P const& x, P const& a_log, P const& dt_bias,
                                                     P const& lower_bound) noexcept {
  using std::exp;
  return lower_bound * sigmoid(exp(a_log) * (x + dt_bias));
}
///@}

/// @name Queries and keys
///@{

/// What a query is multiplied with before it enters a kernel, 1 / sqrt(K): linear attention, GLA, RetNet, DPLR and the
/// delta family in their published layers. RWKV scales nothing.
AVIARY_HOST_DEVICE inline double query_scale(Index keys) noexcept { return 1 / std::sqrt(static_cast<double>(keys)); }

namespace detail {
template <class T> AVIARY_HOST_DEVICE inline T sum_of_squares(VecView<T const> x) noexcept {
  constexpr Index lanes = 16;  // partial sums that a compiler may keep in lanes
  T part[lanes] = {}, sum(0);
  Index i = 0;
  for (; i + lanes <= x.size(); i += lanes)
    for (Index l = 0; l < lanes; ++l) part[l] += x[i + l] * x[i + l];
  for (; i < x.size(); ++i) sum += x[i] * x[i];
  for (T const p : part) sum += p;
  return sum;
}
template <class T> AVIARY_HOST_DEVICE inline void scale(VecView<T> x, T factor) noexcept {
  for (T& e : x) e *= factor;
}
}  // namespace detail

/// x / max(|x|, least): the removal key of WKV-7. Zeros stay zeros.
template <class T> AVIARY_HOST_DEVICE inline void normalize_max(VecView<T> x, T least = T(1e-12)) noexcept {
  T const length = std::sqrt(detail::sum_of_squares<T>(x));
  detail::scale(x, T(1) / (length > least ? length : least));
}

/// x / sqrt(|x|^2 + eps): queries and keys of the delta family in its published layers. Shorter than a unit by eps / 2.
template <class T> AVIARY_HOST_DEVICE inline void normalize_plus(VecView<T> x, T eps = T(1e-6)) noexcept {
  detail::scale(x, T(1) / std::sqrt(detail::sum_of_squares<T>(x) + eps));
}
///@}

}  // namespace aviary
