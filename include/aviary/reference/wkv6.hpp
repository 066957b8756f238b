#pragma once
/// WKV-6 ("Finch") and Finch-C2 word for word, one head, slow and obvious: to debug other code against.
///
///     Wkv6       y = S r + (r . (u*k)) v          S' = S diag(w) + v k^T
///     FinchC2    y = S r                          S' = S diag(w) + v ((1 - w)*k)^T
///
/// with w = exp(log_w) of every token. S is V x K, as in the papers. Papers: "Eagle and Finch", arXiv 2404.05892, and
/// "GoldFinch", arXiv 2407.12077.
#include "aviary/reference/algebra.hpp"
#include "aviary/reference/check.hpp"

namespace aviary::reference {

template <class T = double> struct Wkv6 {
  using Vector = VecView<T const>;
  using Matrix = MatView<T const>;

  /// One token.
  struct Token {
    Vector r, log_w, k;  // (K) each, log_w <= 0
    Vector v;            // (V)
    Vector u;            // (K)
  };

  /// A sequence: row t belongs to token t. u does not change with time.
  struct Inputs {
    Matrix r, log_w, k;  // (tokens, K) each
    Matrix v;            // (tokens, V)
    Vector u;            // (K)
  };

  /// Advances s (V x K) by one token and writes the output y (V), which overlaps no input.
  /// Throws std::invalid_argument when the sizes disagree. Cost: about 2 K^2 V flops.
  static void step(MatView<T> s, Token const& x, VecView<T> y) {
    using namespace detail;
    TokenSizes<T>("Wkv6", s, y).keys("r", x.r).keys("log_w", x.log_w).keys("k", x.k).values("v", x.v).keys("u", x.u);
    auto const r = column(x.r), w = exp(column(x.log_w)), k = column(x.k), v = column(x.v), u = column(x.u);
    auto const S = matrix(s);
    store(S * r + dot(r, elementwise(u, k)) * v, y);
    store(S * diag(w) + v * transpose(k), s);
  }

  /// Advances s by all tokens of a sequence; row t of y (tokens, V) is the output of token t.
  static void forward(MatView<T> s, Inputs const& x, MatView<T> y) {
    detail::TokenCounts("Wkv6", y.rows())("r", x.r)("log_w", x.log_w)("k", x.k)("v", x.v);
    for (Index t = 0; t < y.rows(); ++t)
      step(s, {.r = x.r[t], .log_w = x.log_w[t], .k = x.k[t], .v = x.v[t], .u = x.u}, y[t]);
  }
};

template <class T = double> struct FinchC2 {
  using Vector = VecView<T const>;
  using Matrix = MatView<T const>;

  /// One token.
  struct Token {
    Vector r, log_w, k;  // (K) each, log_w <= 0
    Vector v;            // (V)
  };

  /// A sequence: row t belongs to token t.
  struct Inputs {
    Matrix r, log_w, k;  // (tokens, K) each
    Matrix v;            // (tokens, V)
  };

  /// Advances s (V x K) by one token and writes the output y (V), which overlaps no input.
  /// Throws std::invalid_argument when the sizes disagree. Cost: about 2 K^2 V flops.
  static void step(MatView<T> s, Token const& x, VecView<T> y) {
    using namespace detail;
    TokenSizes<T>("FinchC2", s, y).keys("r", x.r).keys("log_w", x.log_w).keys("k", x.k).values("v", x.v);
    auto const r = column(x.r), w = exp(column(x.log_w)), k = column(x.k), v = column(x.v);
    auto const S = matrix(s), I = identity<T>(s.columns());
    store(S * r, y);
    store(S * diag(w) + v * transpose((I - diag(w)) * k), s);
  }

  /// Advances s by all tokens of a sequence; row t of y (tokens, V) is the output of token t.
  static void forward(MatView<T> s, Inputs const& x, MatView<T> y) {
    detail::TokenCounts("FinchC2", y.rows())("r", x.r)("log_w", x.log_w)("k", x.k)("v", x.v);
    for (Index t = 0; t < y.rows(); ++t) step(s, {.r = x.r[t], .log_w = x.log_w[t], .k = x.k[t], .v = x.v[t]}, y[t]);
  }
};

}  // namespace aviary::reference
