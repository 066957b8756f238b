#pragma once
/// Elementwise functions of the models, for a number or, where simd/pack.hpp is included, for a SIMD batch of numbers. Errors
/// are for float arguments; one ulp is 2^-23 of the value at most.
#include <cmath>
#include <type_traits>

#include "aviary/core/config.hpp"

namespace AVIARY_NAMESPACE {

namespace detail {
/// The type of one number of P: of a batch its lanes', else P.
template <class P> struct NumberOf { using type = P; };
template <class P>
requires requires { typename P::value_type; }
struct NumberOf<P> {
  using type = typename P::value_type;
};
template <class P> using Number = typename NumberOf<P>::type;

/// What the functions below are made of, for numbers. simd/pack.hpp has it for batches.
template <class P> struct Elementary {
  AVIARY_HOST_DEVICE static P exp(P x) noexcept { return std::exp(x); }
  AVIARY_HOST_DEVICE static P log(P x) noexcept { return std::log(x); }
  AVIARY_HOST_DEVICE static P log1p(P x) noexcept { return std::log1p(x); }
  AVIARY_HOST_DEVICE static P tanh(P x) noexcept { return std::tanh(x); }
};
}  // namespace detail

/// 1 / (1 + exp(-x)).  Error: 4 ulp. Exactly 0 below about -88 in float; never negative, never above 1.
template <class P> AVIARY_HOST_DEVICE inline P sigmoid(P const& x) noexcept {
  return P(1) / (P(1) + detail::Elementary<P>::exp(-x));
}

/// x sigmoid(x), also called swish.  Error: 5 ulp.
template <class P> AVIARY_HOST_DEVICE inline P silu(P const& x) noexcept { return x * sigmoid(x); }

/// log(1 + exp(x)), computed as max(x, 0) + log1p(exp(-|x|)), which neither overflows nor loses small values.
/// Error: 3 ulp down to -86; below about -87, where the value is no normal float, batches give 0.
template <class P> AVIARY_HOST_DEVICE inline P softplus(P const& x) noexcept {
  using std::abs;
  using std::fmax;
  using E = detail::Elementary<P>;
  return fmax(x, P(0)) + E::log1p(E::exp(-abs(x)));
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
  return -detail::Elementary<P>::exp(w_raw);
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

/// GLA:  log_w = log(sigmoid(x)) / 16, never above 0.  Error: 3 ulp, for x up to 86; then as softplus(-x).
template <class P> AVIARY_HOST_DEVICE inline P log_w_of_gla(P const& x) noexcept {
  return P(static_cast<detail::Number<P>>(-1.0 / 16)) * softplus(-x);
}

/// Gated DeltaNet (one number per head), KDA (one per channel), Mamba-2:  log_w = -exp(a_log) softplus(x + dt_bias), with
/// a_log and dt_bias the layer's parameters. Keep these in float at least.
/// Error: 4 ulp, and where z = x + dt_bias is negative |z| more, which its own rounding costs.
template <class P>
AVIARY_HOST_DEVICE inline P log_w_of_softplus(P const& x, P const& a_log, P const& dt_bias) noexcept {
  return -detail::Elementary<P>::exp(a_log) * softplus(x + dt_bias);
}

/// KDA, bounded below:  log_w = lower_bound sigmoid(exp(a_log) (x + dt_bias)), lower_bound < 0, usually -5.
/// Error: 4 ulp, and where z = exp(a_log) (x + dt_bias) is negative 2 |z| more, which its own rounding costs.
template <class P>
AVIARY_HOST_DEVICE inline P log_w_of_bounded_sigmoid(P const& x, P const& a_log, P const& dt_bias,
                                                     P const& lower_bound) noexcept {
  return lower_bound * sigmoid(detail::Elementary<P>::exp(a_log) * (x + dt_bias));
}
///@}

/// What a query is multiplied with before it enters a kernel, 1 / sqrt(K): linear attention, GLA, RetNet, DPLR and the
/// delta family in their published layers. RWKV scales nothing.
AVIARY_HOST_DEVICE inline double query_scale(Index keys) noexcept { return 1 / std::sqrt(static_cast<double>(keys)); }

/// Activations as objects, to be passed on.
namespace activation {

inline constexpr auto none = [](auto const& x) { return x; };
inline constexpr auto sigmoid = [](auto const& x) { return aviary::sigmoid(x); };
inline constexpr auto tanh = [](auto const& x) {
  return detail::Elementary<std::remove_cvref_t<decltype(x)>>::tanh(x);
};

}  // namespace activation
}  // namespace AVIARY_NAMESPACE
