#pragma once
/// Linear attention and its gated kin word for word, one head, slow and obvious: to debug other code against.
///
///     LinearAttention    S' = S + v k^T                  y = S' q
///     RetNet             S' = w S + v k^T                y = S' q        w of a head, constant
///     SimpleGla          S' = w S + v k^T                y = S' q        w of every token
///     Gla                S' = S diag(w) + v k^T          y = S' q
///
/// with w = exp(log_w). S is V x K, as in the papers; the scale of q is the caller's. Papers: arXiv 2006.16236, 2307.08621,
/// 2405.21060 and 2312.06635.
#include "aviary/reference/algebra.hpp"
#include "aviary/reference/check.hpp"

namespace aviary::reference {

template <class T = double> struct LinearAttention {
  using Vector = VecView<T const>;
  using Matrix = MatView<T const>;

  /// One token.
  struct Token {
    Vector q, k;  // (K) each
    Vector v;     // (V)
  };

  /// A sequence: row t belongs to token t.
  struct Inputs {
    Matrix q, k;  // (tokens, K) each
    Matrix v;     // (tokens, V)
  };

  /// Advances s (V x K) by one token and writes the output y (V), which overlaps no input.
  /// Throws std::invalid_argument when the sizes disagree.
  static void step(MatView<T> s, Token const& x, VecView<T> y) {
    using namespace detail;
    TokenSizes<T>("LinearAttention", s, y).keys("q", x.q).keys("k", x.k).values("v", x.v);
    auto const q = column(x.q), k = column(x.k), v = column(x.v);
    store(matrix(s) + v * transpose(k), s);
    store(matrix(s) * q, y);
  }

  /// Advances s by all tokens of a sequence; row t of y (tokens, V) is the output of token t.
  static void forward(MatView<T> s, Inputs const& x, MatView<T> y) {
    detail::TokenCounts("LinearAttention", y.rows())("q", x.q)("k", x.k)("v", x.v);
    for (Index t = 0; t < y.rows(); ++t) step(s, {.q = x.q[t], .k = x.k[t], .v = x.v[t]}, y[t]);
  }
};

template <class T = double> struct SimpleGla {
  using Vector = VecView<T const>;
  using Matrix = MatView<T const>;

  /// One token.
  struct Token {
    Vector q, k;        // (K) each
    Vector v;           // (V)
    Required<T> log_w;  // <= 0
  };

  /// A sequence: row t belongs to token t.
  struct Inputs {
    Matrix q, k;   // (tokens, K) each
    Matrix v;      // (tokens, V)
    Vector log_w;  // (tokens)
  };

  /// Advances s (V x K) by one token and writes the output y (V), which overlaps no input.
  /// Throws std::invalid_argument when the sizes disagree.
  static void step(MatView<T> s, Token const& x, VecView<T> y) {
    using namespace detail;
    using std::exp;
    TokenSizes<T>("SimpleGla", s, y).keys("q", x.q).keys("k", x.k).values("v", x.v);
    auto const q = column(x.q), k = column(x.k), v = column(x.v);
    T const w = exp(x.log_w.value);
    store(w * matrix(s) + v * transpose(k), s);
    store(matrix(s) * q, y);
  }

  /// Advances s by all tokens of a sequence; row t of y (tokens, V) is the output of token t.
  static void forward(MatView<T> s, Inputs const& x, MatView<T> y) {
    detail::TokenCounts("SimpleGla", y.rows())("q", x.q)("k", x.k)("v", x.v)("log_w", x.log_w);
    for (Index t = 0; t < y.rows(); ++t) step(s, {.q = x.q[t], .k = x.k[t], .v = x.v[t], .log_w = x.log_w[t]}, y[t]);
  }
};

template <class T = double> struct RetNet {
  using Vector = VecView<T const>;
  using Matrix = MatView<T const>;

  /// One token: that of simple GLA, and its equation.
  using Token = typename SimpleGla<T>::Token;

  /// A sequence: row t belongs to token t.
  struct Inputs {
    Matrix q, k;        // (tokens, K) each
    Matrix v;           // (tokens, V)
    Required<T> log_w;  // <= 0, of all tokens
  };

  /// Advances s (V x K) by one token and writes the output y (V), which overlaps no input.
  /// Throws std::invalid_argument when the sizes disagree.
  static void step(MatView<T> s, Token const& x, VecView<T> y) { SimpleGla<T>::step(s, x, y); }

  /// Advances s by all tokens of a sequence; row t of y (tokens, V) is the output of token t.
  static void forward(MatView<T> s, Inputs const& x, MatView<T> y) {
    detail::TokenCounts("RetNet", y.rows())("q", x.q)("k", x.k)("v", x.v);
    for (Index t = 0; t < y.rows(); ++t) step(s, {.q = x.q[t], .k = x.k[t], .v = x.v[t], .log_w = x.log_w}, y[t]);
  }
};

template <class T = double> struct Gla {
  using Vector = VecView<T const>;
  using Matrix = MatView<T const>;

  /// One token.
  struct Token {
    Vector q, k;   // (K) each
    Vector v;      // (V)
    Vector log_w;  // (K), <= 0
  };

  /// A sequence: row t belongs to token t.
  struct Inputs {
    Matrix q, k;   // (tokens, K) each
    Matrix v;      // (tokens, V)
    Matrix log_w;  // (tokens, K)
  };

  /// Advances s (V x K) by one token and writes the output y (V), which overlaps no input.
  /// Throws std::invalid_argument when the sizes disagree. Cost: about 2 K^2 V flops.
  static void step(MatView<T> s, Token const& x, VecView<T> y) {
    using namespace detail;
    TokenSizes<T>("Gla", s, y).keys("q", x.q).keys("k", x.k).values("v", x.v).keys("log_w", x.log_w);
    auto const q = column(x.q), k = column(x.k), v = column(x.v), w = exp(column(x.log_w));
    store(matrix(s) * diag(w) + v * transpose(k), s);
    store(matrix(s) * q, y);
  }

  /// Advances s by all tokens of a sequence; row t of y (tokens, V) is the output of token t.
  static void forward(MatView<T> s, Inputs const& x, MatView<T> y) {
    detail::TokenCounts("Gla", y.rows())("q", x.q)("k", x.k)("v", x.v)("log_w", x.log_w);
    for (Index t = 0; t < y.rows(); ++t) step(s, {.q = x.q[t], .k = x.k[t], .v = x.v[t], .log_w = x.log_w[t]}, y[t]);
  }
};

}  // namespace aviary::reference
