#pragma once
/// DPLR and IPLR word for word, one head, slow and obvious: to debug other code against.
///
///     Dplr    S' = S (diag(w) + alpha beta^T) + v k^T          y = S' q          w = exp(log_w)
///     Iplr    S' = S (I + alpha beta^T) + v k^T                y = S' q
///
/// alpha reads the state before its decay, along beta that reading is written. S is V x K, as in the papers; the scale of q
/// is the caller's.
#include "aviary/reference/algebra.hpp"
#include "aviary/reference/check.hpp"

namespace aviary::reference {

template <class T = double> struct Dplr {
  using Vector = VecView<T const>;
  using Matrix = MatView<T const>;

  /// One token.
  struct Token {
    Vector q, log_w, k;  // (K) each, log_w <= 0
    Vector v;            // (V)
    Vector alpha, beta;  // (K) each
  };

  /// A sequence: row t belongs to token t.
  struct Inputs {
    Matrix q, log_w, k;  // (tokens, K) each
    Matrix v;            // (tokens, V)
    Matrix alpha, beta;  // (tokens, K) each
  };

  /// Advances s (V x K) by one token and writes the output y (V), which overlaps no input.
  /// Throws std::invalid_argument when the sizes disagree. Cost: about 2 K^2 V flops.
  static void step(MatView<T> s, Token const& x, VecView<T> y) {
    using namespace detail;
    TokenSizes<T> const sizes("Dplr", s, y);
    sizes.keys("q", x.q).keys("log_w", x.log_w).keys("k", x.k).values("v", x.v);
    sizes.keys("alpha", x.alpha).keys("beta", x.beta);
    auto const q = column(x.q), w = exp(column(x.log_w)), k = column(x.k), v = column(x.v);
    auto const alpha = column(x.alpha), beta = column(x.beta);
    store(matrix(s) * (diag(w) + alpha * transpose(beta)) + v * transpose(k), s);
    store(matrix(s) * q, y);
  }

  /// Advances s by all tokens of a sequence; row t of y (tokens, V) is the output of token t.
  static void forward(MatView<T> s, Inputs const& x, MatView<T> y) {
    detail::TokenCounts const tokens("Dplr", y.rows());
    tokens("q", x.q)("log_w", x.log_w)("k", x.k)("v", x.v)("alpha", x.alpha)("beta", x.beta);
    for (Index t = 0; t < y.rows(); ++t)
      step(s, {.q = x.q[t], .log_w = x.log_w[t], .k = x.k[t], .v = x.v[t], .alpha = x.alpha[t], .beta = x.beta[t]},
           y[t]);
  }
};

template <class T = double> struct Iplr {
  using Vector = VecView<T const>;
  using Matrix = MatView<T const>;

  /// One token.
  struct Token {
    Vector q, k;         // (K) each
    Vector v;            // (V)
    Vector alpha, beta;  // (K) each
  };

  /// A sequence: row t belongs to token t.
  struct Inputs {
    Matrix q, k;         // (tokens, K) each
    Matrix v;            // (tokens, V)
    Matrix alpha, beta;  // (tokens, K) each
  };

  /// Advances s (V x K) by one token and writes the output y (V), which overlaps no input.
  /// Throws std::invalid_argument when the sizes disagree. Cost: about 2 K^2 V flops.
  static void step(MatView<T> s, Token const& x, VecView<T> y) {
    using namespace detail;
    TokenSizes<T> const sizes("Iplr", s, y);
    sizes.keys("q", x.q).keys("k", x.k).values("v", x.v).keys("alpha", x.alpha).keys("beta", x.beta);
    auto const q = column(x.q), k = column(x.k), v = column(x.v), alpha = column(x.alpha), beta = column(x.beta);
    auto const I = identity<T>(s.columns());
    store(matrix(s) * (I + alpha * transpose(beta)) + v * transpose(k), s);
    store(matrix(s) * q, y);
  }

  /// Advances s by all tokens of a sequence; row t of y (tokens, V) is the output of token t.
  static void forward(MatView<T> s, Inputs const& x, MatView<T> y) {
    detail::TokenCounts("Iplr", y.rows())("q", x.q)("k", x.k)("v", x.v)("alpha", x.alpha)("beta", x.beta);
    for (Index t = 0; t < y.rows(); ++t)
      step(s, {.q = x.q[t], .k = x.k[t], .v = x.v[t], .alpha = x.alpha[t], .beta = x.beta[t]}, y[t]);
  }
};

}  // namespace aviary::reference
