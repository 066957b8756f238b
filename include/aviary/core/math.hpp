#pragma once
/// Elementwise functions of the models, for a number or for a SIMD batch of numbers: exp and tanh are found by the
/// argument's type. Errors are for float arguments; one ulp is 2^-23 of the value at most.
#include <cmath>

#include "aviary/core/config.hpp"

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

/// 1 / (1 + exp(-x)).  Error: 3 ulp. Exactly 0 below about -88 in float; never negative, never above 1.
template <class P> AVIARY_HOST_DEVICE inline P sigmoid(P const& x) noexcept {
  using std::exp;
  return P(1) / (P(1) + exp(-x));
}

/// x sigmoid(x), also called swish.  Error: 4 ulp.
template <class P> AVIARY_HOST_DEVICE inline P silu(P const& x) noexcept { return x * sigmoid(x); }

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
/// Published inference scripts round exp(-1/2) to 0.606531; this is the exact constant.  Error: 4 ulp of log_w.
template <class P> AVIARY_HOST_DEVICE inline P log_w_of_sigmoid(P const& w_raw) noexcept {
  return P(static_cast<detail::Number<P>>(-0.60653065971263342360)) * sigmoid(w_raw);
}
///@}

}  // namespace aviary
