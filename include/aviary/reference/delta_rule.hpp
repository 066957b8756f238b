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
#include "aviary/reference/memory.hpp"

namespace AVIARY_NAMESPACE::reference {
namespace detail {

struct DeltaNetEquation {
  static constexpr char const* model = "DeltaNet";
  static constexpr std::array names{"q", "k", "v", "beta"};
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> q, k;  // (K) each, |k| = 1
    Per<Axis::value> v;   // (V)
    Per<Axis::one> beta;  // in [0, 2]
  };
  template <class T> static void step(Matrix<T>& S, auto const& x, Matrix<T>& y) {
    auto const& [q, k, v, beta] = x;
    auto const I = identity<T>(S.columns());
    S = S * (I - beta * k * transpose(k)) + beta * v * transpose(k);
    y = S * q;
  }
};

struct GatedDeltaNetEquation {
  static constexpr char const* model = "GatedDeltaNet";
  static constexpr std::array names{"q", "k", "v", "log_w", "beta"};
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> q, k;   // (K) each, |k| = 1
    Per<Axis::value> v;    // (V)
    Per<Axis::one> log_w;  // <= 0
    Per<Axis::one> beta;   // in [0, 2]
  };
  template <class T> static void step(Matrix<T>& S, auto const& x, Matrix<T>& y) {
    auto const& [q, k, v, log_w, beta] = x;
    auto const I = identity<T>(S.columns());
    T const w = exp(log_w);
    S = w * S * (I - beta * k * transpose(k)) + beta * v * transpose(k);
    y = S * q;
  }
};

struct KdaEquation {
  static constexpr char const* model = "Kda";
  static constexpr std::array names{"q", "k", "v", "log_w", "beta"};
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> q, k;   // (K) each, |k| = 1
    Per<Axis::value> v;    // (V)
    Per<Axis::key> log_w;  // (K), <= 0
    Per<Axis::one> beta;   // in [0, 2]
  };
  template <class T> static void step(Matrix<T>& S, auto const& x, Matrix<T>& y) {
    auto const& [q, k, v, log_w, beta] = x;
    auto const I = identity<T>(S.columns());
    auto const w = exp(log_w);
    S = S * diag(w) * (I - beta * k * transpose(k)) + beta * v * transpose(k);
    y = S * q;
  }
};

struct GatedDeltaNet2Equation {
  static constexpr char const* model = "GatedDeltaNet2";
  static constexpr std::array names{"q", "k", "v", "log_w", "b", "c"};
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> q, k;   // (K) each, |k| = 1
    Per<Axis::value> v;    // (V)
    Per<Axis::key> log_w;  // (K), <= 0
    Per<Axis::key> b;      // (K), the erase gate
    Per<Axis::value> c;    // (V), the write gate
  };
  template <class T> static void step(Matrix<T>& S, auto const& x, Matrix<T>& y) {
    auto const& [q, k, v, log_w, b, c] = x;
    auto const I = identity<T>(S.columns());
    auto const w = exp(log_w);
    S = S * diag(w) * (I - elementwise(b, k) * transpose(k)) + elementwise(c, v) * transpose(k);
    y = S * q;
  }
};

struct CombaEquation {
  static constexpr char const* model = "Comba";
  static constexpr std::array names{"q", "k", "v", "log_w", "p", "beta"};
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> q, k;   // (K) each, |k| = 1
    Per<Axis::value> v;    // (V)
    Per<Axis::one> log_w;  // <= 0
    Per<Axis::key> p;      // (K), what is erased
    Per<Axis::one> beta;   // in [0, 1]
  };
  template <class T> static void step(Matrix<T>& S, auto const& x, Matrix<T>& y) {
    auto const& [q, k, v, log_w, p, beta] = x;
    auto const I = identity<T>(S.columns());
    T const w = exp(log_w);
    S = w * S * (I - beta * p * transpose(k)) + beta * v * transpose(k);
    y = S * q;
  }
};

}  // namespace detail

template <class T = double> using DeltaNet = detail::Memory<detail::DeltaNetEquation, T>;
template <class T = double> using GatedDeltaNet = detail::Memory<detail::GatedDeltaNetEquation, T>;
template <class T = double> using Kda = detail::Memory<detail::KdaEquation, T>;
template <class T = double> using GatedDeltaNet2 = detail::Memory<detail::GatedDeltaNet2Equation, T>;
template <class T = double> using Comba = detail::Memory<detail::CombaEquation, T>;

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
    Index const n = x.k.rows();
    expect("y", y.size(), s.rows());
    expect("q", x.q.size(), s.columns());
    expect("v (factors)", x.v.rows(), n);
    expect("beta (factors)", x.beta.size(), n);
    expect("k", x.k.columns(), s.columns());
    expect("v", x.v.columns(), s.rows());
    auto const q = column(x.q), I = identity<T>(s.columns());
    T const w = exp(x.log_w.value);
    auto S = w * matrix<T>(s);
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
    expect("q (tokens)", x.q.rows(), tokens);
    expect("log_w (tokens)", x.log_w.size(), tokens);
    expect("k (tokens)", x.k.rows(), tokens * n);
    expect("v (tokens)", x.v.rows(), tokens * n);
    expect("beta (tokens)", x.beta.size(), tokens * n);
    for (Index t = 0; t < tokens; ++t)
      step(s,
           {.q = x.q[t],
            .k = x.k.rows(t * n, n),
            .v = x.v.rows(t * n, n),
            .log_w = x.log_w[t],
            .beta = x.beta.segment(t * n, n)},
           y[t]);
  }

 private:
  static void expect(char const* input, Index have, Index want) {
    detail::expect_size("GatedDeltaProduct", input, have, want);
  }
};

}  // namespace AVIARY_NAMESPACE::reference
