#pragma once
/// WKV-5 ("Eagle") word for word, one head, slow and obvious: to debug other code against.
///
///     y  = S r + (r . (u*k)) v
///     S' = S diag(w) + v k^T          w = exp(log_w)
///
/// The decay and the bonus u belong to the head and do not change with time: K of each (Wkv5, version 5.2), or one of each
/// (Wkv5PerHead, versions 5.0 and 5.1). S is V x K, as in the paper. Paper: "Eagle and Finch", arXiv 2404.05892.
#include "aviary/reference/algebra.hpp"
#include "aviary/reference/check.hpp"

namespace aviary::reference {

/// Version 5.2.
template <class T = double> struct Wkv5 {
  using Vector = VecView<T const>;
  using Matrix = MatView<T const>;

  /// One token.
  struct Token {
    Vector r, log_w, k;  // (K) each, log_w <= 0
    Vector v;            // (V)
    Vector u;            // (K)
  };

  /// A sequence: row t belongs to token t.
  struct Inputs {
    Matrix r;      // (tokens, K)
    Vector log_w;  // (K)
    Matrix k;      // (tokens, K)
    Matrix v;      // (tokens, V)
    Vector u;      // (K)
  };

  /// Advances s (V x K) by one token and writes the output y (V), which overlaps no input.
  /// Throws std::invalid_argument when the sizes disagree. Cost: about 2 K^2 V flops.
  static void step(MatView<T> s, Token const& x, VecView<T> y) {
    using namespace detail;
    TokenSizes<T>("Wkv5", s, y).keys("r", x.r).keys("log_w", x.log_w).keys("k", x.k).values("v", x.v).keys("u", x.u);
    auto const r = column(x.r), w = exp(column(x.log_w)), k = column(x.k), v = column(x.v), u = column(x.u);
    auto const S = matrix(s);
    store(S * r + dot(r, elementwise(u, k)) * v, y);
    store(S * diag(w) + v * transpose(k), s);
  }

  /// Advances s by all tokens of a sequence; row t of y (tokens, V) is the output of token t.
  static void forward(MatView<T> s, Inputs const& x, MatView<T> y) {
    detail::TokenCounts("Wkv5", y.rows())("r", x.r)("k", x.k)("v", x.v);
    for (Index t = 0; t < y.rows(); ++t)
      step(s, {.r = x.r[t], .log_w = x.log_w, .k = x.k[t], .v = x.v[t], .u = x.u}, y[t]);
  }
};

/// Versions 5.0 and 5.1.
template <class T = double> struct Wkv5PerHead {
  using Vector = VecView<T const>;
  using Matrix = MatView<T const>;

  /// One token.
  struct Token {
    Vector r;           // (K)
    Required<T> log_w;  // <= 0
    Vector k;           // (K)
    Vector v;           // (V)
    Required<T> u;
  };

  /// A sequence: row t belongs to token t.
  struct Inputs {
    Matrix r;           // (tokens, K)
    Required<T> log_w;  // <= 0
    Matrix k;           // (tokens, K)
    Matrix v;           // (tokens, V)
    Required<T> u;
  };

  /// Advances s (V x K) by one token and writes the output y (V), which overlaps no input.
  /// Throws std::invalid_argument when the sizes disagree.
  static void step(MatView<T> s, Token const& x, VecView<T> y) {
    using namespace detail;
    using std::exp;
    TokenSizes<T>("Wkv5PerHead", s, y).keys("r", x.r).keys("k", x.k).values("v", x.v);
    auto const r = column(x.r), k = column(x.k), v = column(x.v);
    T const w = exp(x.log_w.value), u = x.u;
    auto const S = matrix(s);
    store(S * r + (u * dot(r, k)) * v, y);
    store(w * S + v * transpose(k), s);
  }

  /// Advances s by all tokens of a sequence; row t of y (tokens, V) is the output of token t.
  static void forward(MatView<T> s, Inputs const& x, MatView<T> y) {
    detail::TokenCounts("Wkv5PerHead", y.rows())("r", x.r)("k", x.k)("v", x.v);
    for (Index t = 0; t < y.rows(); ++t)
      step(s, {.r = x.r[t], .log_w = x.log_w, .k = x.k[t], .v = x.v[t], .u = x.u}, y[t]);
  }
};

}  // namespace aviary::reference
