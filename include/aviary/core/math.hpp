#pragma once
/// Elementwise functions of the models, for a number or, where simd/pack.hpp is included, for a SIMD batch of numbers. Errors
/// are for float arguments; one ulp is 2^-23 of the value at most.
///
/// Beside every function NAME of y = NAME(x) stands its gradient, NAME_gradient(x, dy): what reaches x from dy, what
/// reached y. Where y tells as much as x, there is NAME_gradient_of_value(y, dy) as well, for those who have kept y
/// alone. Of several arguments the gradients come together, in a struct with their names. Errors are those of the
/// derivative, as of a function of the numbers given. For infinite x all are finite but that of squared_relu.
#include <cmath>
#include <limits>
#include <numbers>
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
  AVIARY_HOST_DEVICE static P select(bool condition, P yes, P no) noexcept { return condition ? yes : no; }
};

/// The logarithm of the smallest normal number. A decay w = exp(log_w) of less is 0.
template <class T>
inline constexpr T log_of_smallest = T(std::numeric_limits<T>::min_exponent - 1) * std::numbers::ln2_v<T>;

/// -exp(-1/2)
inline constexpr double wkv7_least_log_w = -0.60653065971263342360;

/// x, between -1000 and 1000, where exponentials of it have long come to their ends.
template <class P> AVIARY_HOST_DEVICE inline P within_exponents(P const& x) noexcept {
  using E = Elementary<P>;
  P const end(1000);
  return E::select(x < -end, -end, E::select(end < x, end, x));
}

/// sigmoid(|x|) and sigmoid(-|x|) = 1 - sigmoid(|x|) from one exponential, neither by a difference.
template <class P> struct Sigmoids {
  P upper, lower;
  AVIARY_HOST_DEVICE explicit Sigmoids(P const& x) noexcept {
    using std::abs;
    P const e = Elementary<P>::exp(-abs(x));
    upper = P(1) / (P(1) + e);
    lower = e * upper;
  }
};

/// The gradient of log_w = -exp(..) with respect to the exponent: log_w dy. It is 0 where w = exp(log_w) is, because dy
/// has the factor w: not -infinity times 0, nor a large log_w times the rounding of dy.
template <class P> AVIARY_HOST_DEVICE inline P gradient_of_exponent(P const& log_w, P const& dy) noexcept {
  return Elementary<P>::select(log_w < P(log_of_smallest<Number<P>>), P(0), log_w * dy);
}
}  // namespace detail

/// 1 / (1 + exp(-x)).  Error: 4 ulp. Exactly 0 below about -88 in float; never negative, never above 1.
template <class P> AVIARY_HOST_DEVICE inline P sigmoid(P const& x) noexcept {
  return P(1) / (P(1) + detail::Elementary<P>::exp(-x));
}

/// dy sigmoid(x) sigmoid(-x).  Error: 6 ulp for |x| up to 86; beyond about 87, where it is no normal float, it may be 0.
template <class P> AVIARY_HOST_DEVICE inline P sigmoid_gradient(P const& x, P const& dy) noexcept {
  detail::Sigmoids<P> const s(x);
  return s.upper * s.lower * dy;
}

/// dy y (1 - y).  Error: 2 ulp. The rounding of a y near 1 costs up to 2^-25 dy more: it has lost what 1 - y was.
template <class P> AVIARY_HOST_DEVICE inline P sigmoid_gradient_of_value(P const& y, P const& dy) noexcept {
  return y * (P(1) - y) * dy;
}

/// The gradient of tanh, which is in `activation` below: dy / cosh(x)^2.  Error: 6 ulp, for |x| up to 43.
template <class P> AVIARY_HOST_DEVICE inline P tanh_gradient(P const& x, P const& dy) noexcept {
  return P(4) * sigmoid_gradient(x + x, dy);
}

/// dy (1 - y^2).  Error: 2 ulp. The rounding of a y near 1 or -1 costs up to 2^-24 dy more.
template <class P> AVIARY_HOST_DEVICE inline P tanh_gradient_of_value(P const& y, P const& dy) noexcept {
  return (P(1) - y) * (P(1) + y) * dy;
}

/// x sigmoid(x), also called swish.  Error: 5 ulp.
template <class P> AVIARY_HOST_DEVICE inline P silu(P const& x) noexcept { return x * sigmoid(x); }

/// dy sigmoid(x) (1 + x sigmoid(-x)), which is 0 near x = -1.278.
/// Error: 6 ulp of dy sigmoid(x) (1 + |x| sigmoid(-x)).
template <class P> AVIARY_HOST_DEVICE inline P silu_gradient(P const& x, P const& dy) noexcept {
  using E = detail::Elementary<P>;
  P const z = detail::within_exponents(x);
  detail::Sigmoids<P> const s(z);
  return (E::select(z < P(0), s.lower, s.upper) + z * (s.upper * s.lower)) * dy;
}

/// log(1 + exp(x)), computed as max(x, 0) + log1p(exp(-|x|)), which neither overflows nor loses small values.
/// Error: 3 ulp down to -86; below about -87, where the value is no normal float, batches give 0.
template <class P> AVIARY_HOST_DEVICE inline P softplus(P const& x) noexcept {
  using std::abs;
  using std::fmax;
  using E = detail::Elementary<P>;
  return fmax(x, P(0)) + E::log1p(E::exp(-abs(x)));
}

/// dy sigmoid(x).  Error: 5 ulp, as sigmoid's.
template <class P> AVIARY_HOST_DEVICE inline P softplus_gradient(P const& x, P const& dy) noexcept {
  return sigmoid(x) * dy;
}

/// max(x, 0)^2.  NaN gives NaN.
template <class P> AVIARY_HOST_DEVICE inline P squared_relu(P const& x) noexcept {
  using std::abs;
  P const twice = x + abs(x);  // 2 max(x, 0), exactly
  return P(0.25) * twice * twice;
}

/// 2 dy max(x, 0).  Error: 1 ulp. NaN gives NaN.
template <class P> AVIARY_HOST_DEVICE inline P squared_relu_gradient(P const& x, P const& dy) noexcept {
  P const positive = detail::Elementary<P>::select(x < P(0), P(0), x);
  return (positive + positive) * dy;
}

/// @name From a trained decay to log_w
/// Kernels take log_w <= 0, the logarithm of the decay factor. Each model generation has its own way from the number w_raw
/// that its layer computes (w0 + tanh(...) ... in WKV-6 and WKV-7, a weight in WKV-4 and WKV-5); they all stand here.
///@{

/// WKV-4, WKV-5, WKV-6:  log_w = -exp(w_raw), so w = exp(-exp(w_raw)) lies in [0, 1].  Error: 2 ulp of log_w.
template <class P> AVIARY_HOST_DEVICE inline P log_w_of_exponential(P const& w_raw) noexcept {
  return -detail::Elementary<P>::exp(w_raw);
}

/// dy log_w.  Error: 3 ulp; 0 where w is.
template <class P> AVIARY_HOST_DEVICE inline P log_w_of_exponential_gradient(P const& w_raw, P const& dy) noexcept {
  return detail::gradient_of_exponent(log_w_of_exponential(w_raw), dy);
}

/// The same from y = log_w.  Error: 1 ulp; 0 where w is.
template <class P>
AVIARY_HOST_DEVICE inline P log_w_of_exponential_gradient_of_value(P const& y, P const& dy) noexcept {
  return detail::gradient_of_exponent(y, dy);
}

/// WKV-7:  log_w = -exp(-1/2) sigmoid(w_raw), so w lies in (0.5452, 1). The same as w = exp(-exp(-softplus(-w_raw) - 1/2)).
/// Published inference scripts round exp(-1/2) to 0.606531; this is the exact constant.  Error: 5 ulp of log_w.
template <class P> AVIARY_HOST_DEVICE inline P log_w_of_sigmoid(P const& w_raw) noexcept {
  return P(static_cast<detail::Number<P>>(detail::wkv7_least_log_w)) * sigmoid(w_raw);
}

/// dy log_w sigmoid(-w_raw).  Error: 7 ulp, for |w_raw| up to 86.
template <class P> AVIARY_HOST_DEVICE inline P log_w_of_sigmoid_gradient(P const& w_raw, P const& dy) noexcept {
  return P(static_cast<detail::Number<P>>(detail::wkv7_least_log_w)) * sigmoid_gradient(w_raw, dy);
}

/// RetNet:  log_w = log(1 - 2^(-5 - head)) for head 0, 1, ... of every layer.
AVIARY_HOST_DEVICE inline double log_w_of_retnet(Index head) noexcept {
  return std::log1p(-std::exp2(-5.0 - static_cast<double>(head)));
}

/// GLA:  log_w = log(sigmoid(x)) / 16, never above 0.  Error: 3 ulp, for x up to 86; then as softplus(-x).
template <class P> AVIARY_HOST_DEVICE inline P log_w_of_gla(P const& x) noexcept {
  return P(static_cast<detail::Number<P>>(-1.0 / 16)) * softplus(-x);
}

/// dy sigmoid(-x) / 16.  Error: 5 ulp, for x up to 86.
template <class P> AVIARY_HOST_DEVICE inline P log_w_of_gla_gradient(P const& x, P const& dy) noexcept {
  return P(static_cast<detail::Number<P>>(1.0 / 16)) * sigmoid(-x) * dy;
}

/// What reaches the arguments of the functions of three below. (a_log and dt_bias belong to a head or a channel: their
/// gradients are sums over tokens.)
template <class P> struct DecayGradients { P x, a_log, dt_bias; };

/// Gated DeltaNet (one number per head), KDA (one per channel), Mamba-2:  log_w = -exp(a_log) softplus(x + dt_bias), with
/// a_log and dt_bias the layer's parameters. Keep these in float at least.
/// Error: 4 ulp, and where z = x + dt_bias is negative |z| more, which its own rounding costs.
template <class P>
AVIARY_HOST_DEVICE inline P log_w_of_softplus(P const& x, P const& a_log, P const& dt_bias) noexcept {
  return -detail::Elementary<P>::exp(a_log) * softplus(x + dt_bias);
}

/// x and dt_bias: -dy exp(a_log) sigmoid(z), z = x + dt_bias.  a_log: dy log_w, and 0 where w is.
/// Error: 7 ulp for x and dt_bias, 6 ulp for a_log; where z is negative |z| more, which its own rounding costs.
template <class P>
AVIARY_HOST_DEVICE inline DecayGradients<P> log_w_of_softplus_gradient(P const& x, P const& a_log, P const& dt_bias,
                                                                       P const& dy) noexcept {
  P const z = x + dt_bias, slope = -detail::Elementary<P>::exp(a_log), dz = slope * sigmoid(z) * dy;
  return {dz, detail::gradient_of_exponent(slope * softplus(z), dy), dz};
}

/// KDA, bounded below:  log_w = lower_bound sigmoid(exp(a_log) (x + dt_bias)), lower_bound < 0, usually -5.
/// Error: 4 ulp, and where z = exp(a_log) (x + dt_bias) is negative 2 |z| more, which its own rounding costs.
template <class P>
AVIARY_HOST_DEVICE inline P log_w_of_bounded_sigmoid(P const& x, P const& a_log, P const& dt_bias,
                                                     P const& lower_bound) noexcept {
  return lower_bound * sigmoid(detail::Elementary<P>::exp(a_log) * (x + dt_bias));
}

/// x and dt_bias: dy exp(a_log) lower_bound sigmoid(z) sigmoid(-z), z = exp(a_log) (x + dt_bias).  a_log: the same with
/// z for exp(a_log). (lower_bound is no number that is trained.)
/// Error: 10 ulp, and 2 |z| more, which the rounding of z costs.
template <class P>
AVIARY_HOST_DEVICE inline DecayGradients<P> log_w_of_bounded_sigmoid_gradient(P const& x, P const& a_log,
                                                                              P const& dt_bias, P const& lower_bound,
                                                                              P const& dy) noexcept {
  P const slope = detail::Elementary<P>::exp(a_log), z = detail::within_exponents(slope * (x + dt_bias));
  P const dz = lower_bound * sigmoid_gradient(z, dy);
  return {slope * dz, z * dz, slope * dz};
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
