#pragma once
/// The delta rule and its kin word for word, one head, slow and obvious: to debug other code against.
///
///     DeltaNet            S' = S (I - beta k k^T) + beta v k^T
///     GatedDeltaNet       S' = w S (I - beta k k^T) + beta v k^T
///     Kda                 S' = S diag(w) (I - beta k k^T) + beta v k^T
///     GatedDeltaNet2      S' = S diag(w) (I - (b*k) k^T) + (c*v) k^T
///     Comba               S' = w S (I - beta p k^T) + beta v k^T
///     GatedDeltaProduct   S' = S_n,  S_i = S_{i-1} (I - beta_i k_i k_i^T) + beta_i v_i k_i^T,  S_0 = w S
///
/// and y = S' q, with w = exp(log_w): the decay comes first, then the erasure. S is V x K, as in the papers; the scale of q
/// is the caller's, keys have unit length. Papers: arXiv 2406.06484, 2412.06464, 2510.26692 (KDA), 2506.02475 (Comba),
/// 2502.10297 (DeltaProduct).
#include "aviary/reference/algebra.hpp"
#include "aviary/reference/check.hpp"

namespace aviary::reference {

template <class T = double> struct DeltaNet {
  using Vector = VecView<T const>;
  using Matrix = MatView<T const>;

  /// One token.
  struct Token {
    Vector q, k;       // (K) each, |k| = 1
    Vector v;          // (V)
    Required<T> beta;  // in [0, 2]
  };

  /// A sequence: row t belongs to token t.
  struct Inputs {
    Matrix q, k;  // (tokens, K) each
    Matrix v;     // (tokens, V)
    Vector beta;  // (tokens)
  };

  /// Advances s (V x K) by one token and writes the output y (V), which overlaps no input.
  /// Throws std::invalid_argument when the sizes disagree. Cost: about 2 K^2 V flops.
  static void step(MatView<T> s, Token const& x, VecView<T> y) {
    using namespace detail;
    TokenSizes<T>("DeltaNet", s, y).keys("q", x.q).keys("k", x.k).values("v", x.v);
    auto const q = column(x.q), k = column(x.k), v = column(x.v);
    T const beta = x.beta;
    auto const I = identity<T>(s.columns());
    store(matrix(s) * (I - beta * k * transpose(k)) + beta * v * transpose(k), s);
    store(matrix(s) * q, y);
  }

  /// Advances s by all tokens of a sequence; row t of y (tokens, V) is the output of token t.
  static void forward(MatView<T> s, Inputs const& x, MatView<T> y) {
    detail::TokenCounts("DeltaNet", y.rows())("q", x.q)("k", x.k)("v", x.v)("beta", x.beta);
    for (Index t = 0; t < y.rows(); ++t) step(s, {.q = x.q[t], .k = x.k[t], .v = x.v[t], .beta = x.beta[t]}, y[t]);
  }
};

template <class T = double> struct GatedDeltaNet {
  using Vector = VecView<T const>;
  using Matrix = MatView<T const>;

  /// One token.
  struct Token {
    Vector q, k;        // (K) each, |k| = 1
    Vector v;           // (V)
    Required<T> log_w;  // <= 0
    Required<T> beta;   // in [0, 2]
  };

  /// A sequence: row t belongs to token t.
  struct Inputs {
    Matrix q, k;         // (tokens, K) each
    Matrix v;            // (tokens, V)
    Vector log_w, beta;  // (tokens) each
  };

  /// Advances s (V x K) by one token and writes the output y (V), which overlaps no input.
  /// Throws std::invalid_argument when the sizes disagree. Cost: about 2 K^2 V flops.
  static void step(MatView<T> s, Token const& x, VecView<T> y) {
    using namespace detail;
    using std::exp;
    TokenSizes<T>("GatedDeltaNet", s, y).keys("q", x.q).keys("k", x.k).values("v", x.v);
    auto const q = column(x.q), k = column(x.k), v = column(x.v);
    T const w = exp(x.log_w.value), beta = x.beta;
    auto const I = identity<T>(s.columns());
    store(w * matrix(s) * (I - beta * k * transpose(k)) + beta * v * transpose(k), s);
    store(matrix(s) * q, y);
  }

  /// Advances s by all tokens of a sequence; row t of y (tokens, V) is the output of token t.
  static void forward(MatView<T> s, Inputs const& x, MatView<T> y) {
    detail::TokenCounts const tokens("GatedDeltaNet", y.rows());
    tokens("q", x.q)("k", x.k)("v", x.v)("log_w", x.log_w)("beta", x.beta);
    for (Index t = 0; t < y.rows(); ++t)
      step(s, {.q = x.q[t], .k = x.k[t], .v = x.v[t], .log_w = x.log_w[t], .beta = x.beta[t]}, y[t]);
  }
};

template <class T = double> struct Kda {
  using Vector = VecView<T const>;
  using Matrix = MatView<T const>;

  /// One token.
  struct Token {
    Vector q, k;       // (K) each, |k| = 1
    Vector v;          // (V)
    Vector log_w;      // (K), <= 0
    Required<T> beta;  // in [0, 2]
  };

  /// A sequence: row t belongs to token t.
  struct Inputs {
    Matrix q, k;   // (tokens, K) each
    Matrix v;      // (tokens, V)
    Matrix log_w;  // (tokens, K)
    Vector beta;   // (tokens)
  };

  /// Advances s (V x K) by one token and writes the output y (V), which overlaps no input.
  /// Throws std::invalid_argument when the sizes disagree. Cost: about 4 K^2 V flops.
  static void step(MatView<T> s, Token const& x, VecView<T> y) {
    using namespace detail;
    TokenSizes<T>("Kda", s, y).keys("q", x.q).keys("k", x.k).values("v", x.v).keys("log_w", x.log_w);
    auto const q = column(x.q), k = column(x.k), v = column(x.v), w = exp(column(x.log_w));
    T const beta = x.beta;
    auto const I = identity<T>(s.columns());
    store(matrix(s) * diag(w) * (I - beta * k * transpose(k)) + beta * v * transpose(k), s);
    store(matrix(s) * q, y);
  }

  /// Advances s by all tokens of a sequence; row t of y (tokens, V) is the output of token t.
  static void forward(MatView<T> s, Inputs const& x, MatView<T> y) {
    detail::TokenCounts("Kda", y.rows())("q", x.q)("k", x.k)("v", x.v)("log_w", x.log_w)("beta", x.beta);
    for (Index t = 0; t < y.rows(); ++t)
      step(s, {.q = x.q[t], .k = x.k[t], .v = x.v[t], .log_w = x.log_w[t], .beta = x.beta[t]}, y[t]);
  }
};

template <class T = double> struct GatedDeltaNet2 {
  using Vector = VecView<T const>;
  using Matrix = MatView<T const>;

  /// One token.
  struct Token {
    Vector q, k;   // (K) each, |k| = 1
    Vector v;      // (V)
    Vector log_w;  // (K), <= 0
    Vector b;      // (K), the erase gate
    Vector c;      // (V), the write gate
  };

  /// A sequence: row t belongs to token t.
  struct Inputs {
    Matrix q, k;   // (tokens, K) each
    Matrix v;      // (tokens, V)
    Matrix log_w;  // (tokens, K)
    Matrix b;      // (tokens, K)
    Matrix c;      // (tokens, V)
  };

  /// Advances s (V x K) by one token and writes the output y (V), which overlaps no input.
  /// Throws std::invalid_argument when the sizes disagree. Cost: about 4 K^2 V flops.
  static void step(MatView<T> s, Token const& x, VecView<T> y) {
    using namespace detail;
    TokenSizes<T> const sizes("GatedDeltaNet2", s, y);
    sizes.keys("q", x.q).keys("k", x.k).values("v", x.v).keys("log_w", x.log_w).keys("b", x.b).values("c", x.c);
    auto const q = column(x.q), k = column(x.k), v = column(x.v), w = exp(column(x.log_w));
    auto const b = column(x.b), c = column(x.c);
    auto const I = identity<T>(s.columns());
    store(matrix(s) * diag(w) * (I - elementwise(b, k) * transpose(k)) + elementwise(c, v) * transpose(k), s);
    store(matrix(s) * q, y);
  }

  /// Advances s by all tokens of a sequence; row t of y (tokens, V) is the output of token t.
  static void forward(MatView<T> s, Inputs const& x, MatView<T> y) {
    detail::TokenCounts const tokens("GatedDeltaNet2", y.rows());
    tokens("q", x.q)("k", x.k)("v", x.v)("log_w", x.log_w)("b", x.b)("c", x.c);
    for (Index t = 0; t < y.rows(); ++t)
      step(s, {.q = x.q[t], .k = x.k[t], .v = x.v[t], .log_w = x.log_w[t], .b = x.b[t], .c = x.c[t]}, y[t]);
  }
};

template <class T = double> struct Comba {
  using Vector = VecView<T const>;
  using Matrix = MatView<T const>;

  /// One token.
  struct Token {
    Vector q, k;        // (K) each, |k| = 1
    Vector v;           // (V)
    Required<T> log_w;  // <= 0
    Vector p;           // (K), what is erased
    Required<T> beta;   // in [0, 1]
  };

  /// A sequence: row t belongs to token t.
  struct Inputs {
    Matrix q, k;   // (tokens, K) each
    Matrix v;      // (tokens, V)
    Vector log_w;  // (tokens)
    Matrix p;      // (tokens, K)
    Vector beta;   // (tokens)
  };

  /// Advances s (V x K) by one token and writes the output y (V), which overlaps no input.
  /// Throws std::invalid_argument when the sizes disagree. Cost: about 2 K^2 V flops.
  static void step(MatView<T> s, Token const& x, VecView<T> y) {
    using namespace detail;
    using std::exp;
    TokenSizes<T>("Comba", s, y).keys("q", x.q).keys("k", x.k).values("v", x.v).keys("p", x.p);
    auto const q = column(x.q), k = column(x.k), v = column(x.v), p = column(x.p);
    T const w = exp(x.log_w.value), beta = x.beta;
    auto const I = identity<T>(s.columns());
    store(w * matrix(s) * (I - beta * p * transpose(k)) + beta * v * transpose(k), s);
    store(matrix(s) * q, y);
  }

  /// Advances s by all tokens of a sequence; row t of y (tokens, V) is the output of token t.
  static void forward(MatView<T> s, Inputs const& x, MatView<T> y) {
    detail::TokenCounts const tokens("Comba", y.rows());
    tokens("q", x.q)("k", x.k)("v", x.v)("log_w", x.log_w)("p", x.p)("beta", x.beta);
    for (Index t = 0; t < y.rows(); ++t)
      step(s, {.q = x.q[t], .k = x.k[t], .v = x.v[t], .log_w = x.log_w[t], .p = x.p[t], .beta = x.beta[t]}, y[t]);
  }
};

template <class T = double> struct GatedDeltaProduct {
  using Vector = VecView<T const>;
  using Matrix = MatView<T const>;

  /// One token with n factors.
  struct Token {
    Vector q;           // (K)
    Matrix k;           // (n, K), |k_i| = 1
    Matrix v;           // (n, V)
    Required<T> log_w;  // <= 0
    Vector beta;        // (n), in [0, 2]
  };

  /// A sequence: row t belongs to token t, rows t n ... t n + n - 1 of k, v and beta to its factors.
  struct Inputs {
    Matrix q;      // (tokens, K)
    Matrix k;      // (tokens * n, K)
    Matrix v;      // (tokens * n, V)
    Vector log_w;  // (tokens)
    Vector beta;   // (tokens * n)
  };

  /// Advances s (V x K) by one token and writes the output y (V), which overlaps no input.
  /// Throws std::invalid_argument when the sizes disagree. Cost: about 2 n K^2 V flops.
  static void step(MatView<T> s, Token const& x, VecView<T> y) {
    using namespace detail;
    using std::exp;
    Index const n = x.k.rows();
    TokenSizes<T>("GatedDeltaProduct", s, y).keys("q", x.q);
    expect_size("GatedDeltaProduct", "v (factors)", x.v.rows(), n);
    expect_size("GatedDeltaProduct", "beta (factors)", x.beta.size(), n);
    expect_size("GatedDeltaProduct", "k", x.k.columns(), s.columns());
    expect_size("GatedDeltaProduct", "v", x.v.columns(), s.rows());
    auto const q = column(x.q), I = identity<T>(s.columns());
    T const w = exp(x.log_w.value);
    auto S = w * matrix(s);
    for (Index i = 0; i < n; ++i) {
      auto const k = column(x.k[i]), v = column(x.v[i]);
      T const beta = x.beta[i];
      S = S * (I - beta * k * transpose(k)) + beta * v * transpose(k);
    }
    store(S, s);
    store(S * q, y);
  }

  /// Advances s by all tokens of a sequence; row t of y (tokens, V) is the output of token t.
  static void forward(MatView<T> s, Inputs const& x, MatView<T> y) {
    Index const tokens = y.rows(), n = tokens > 0 ? x.k.rows() / tokens : 1;
    detail::TokenCounts("GatedDeltaProduct", tokens)("q", x.q)("log_w", x.log_w);
    detail::TokenCounts("GatedDeltaProduct", tokens * n)("k", x.k)("v", x.v)("beta", x.beta);
    for (Index t = 0; t < tokens; ++t)
      step(s,
           {.q = x.q[t],
            .k = x.k.rows(t * n, n),
            .v = x.v.rows(t * n, n),
            .log_w = x.log_w[t],
            .beta = x.beta.segment(t * n, n)},
           y[t]);
  }
};

}  // namespace aviary::reference
