#pragma once
/// WKV-7 ("Goose") word for word, one head, slow and obvious: to debug other code against.
///
///     S' = S diag(w) - (S kappa_hat) (a * kappa_hat)^T + v k^T          w = exp(log_w)
///        = S (diag(w) - kappa_hat (a * kappa_hat)^T) + v k^T
///     y  = S' r
///
/// In indices, with value index i and key index j:
///
///     S'[i][j] = S[i][j] w[j] - (sum_m S[i][m] kappa_hat[m]) a[j] kappa_hat[j] + v[i] k[j]
///     y[i]     = sum_j S'[i][j] r[j]
///
/// S is V x K here, as in the paper: row i belongs to value i. (The states of the kernels lie the other way round.)
/// The erasure reads the state before it decays, along kappa_hat, and writes along a * kappa_hat: the two exchanged are
/// another model. k is the key that is written, after the layer's own correction by a.
/// Paper: "RWKV-7 Goose with Expressive Dynamic State Evolution", arXiv 2503.14456.
#include <cmath>
#include <vector>

#include "aviary/core/config.hpp"
#include "aviary/core/view.hpp"
#include "aviary/reference/check.hpp"

namespace aviary::reference {

template <class T = double> struct Wkv7 {
  using Vector = VecView<T const>;
  using Matrix = MatView<T const>;

  /// One token.
  struct Token {
    Vector r, log_w, k;   // (K) each, log_w <= 0
    Vector v;             // (V)
    Vector kappa_hat, a;  // (K) each, |kappa_hat| = 1
  };

  /// A sequence: row t belongs to token t.
  struct Inputs {
    Matrix r, log_w, k;   // (tokens, K) each
    Matrix v;             // (tokens, V)
    Matrix kappa_hat, a;  // (tokens, K) each
  };

  /// Advances s (V x K) by one token and writes the output y (V), which overlaps no input.
  /// Throws std::invalid_argument when the sizes disagree. Cost: about 10 K V flops.
  static void step(MatView<T> s, Token const& x, VecView<T> y) {
    using std::exp;
    check(s, x, y);
    std::vector<T> w;
    for (T const log_w : x.log_w) w.push_back(exp(log_w));
    for (Index i = 0; i < s.rows(); ++i) {
      T s_kappa_hat(0);
      for (Index m = 0; m < s.columns(); ++m) s_kappa_hat += s(i, m) * x.kappa_hat[m];
      for (Index j = 0; j < s.columns(); ++j)
        s(i, j) = s(i, j) * w[static_cast<std::size_t>(j)] - s_kappa_hat * (x.a[j] * x.kappa_hat[j]) + x.v[i] * x.k[j];
      y[i] = T(0);
      for (Index j = 0; j < s.columns(); ++j) y[i] += s(i, j) * x.r[j];
    }
  }

  /// Advances s by all tokens of a sequence; row t of y (tokens, V) is the output of token t.
  static void forward(MatView<T> s, Inputs const& x, MatView<T> y) {
    Index const tokens = x.r.rows();
    detail::expect_size("Wkv7", "log_w (tokens)", x.log_w.rows(), tokens);
    detail::expect_size("Wkv7", "k (tokens)", x.k.rows(), tokens);
    detail::expect_size("Wkv7", "v (tokens)", x.v.rows(), tokens);
    detail::expect_size("Wkv7", "kappa_hat (tokens)", x.kappa_hat.rows(), tokens);
    detail::expect_size("Wkv7", "a (tokens)", x.a.rows(), tokens);
    detail::expect_size("Wkv7", "y (tokens)", y.rows(), tokens);
    for (Index t = 0; t < tokens; ++t)
      step(s, {.r = x.r[t], .log_w = x.log_w[t], .k = x.k[t], .v = x.v[t], .kappa_hat = x.kappa_hat[t], .a = x.a[t]},
           y[t]);
  }

 private:
  static void check(MatView<T> s, Token const& x, VecView<T> y) {
    detail::expect_size("Wkv7", "r", x.r.size(), s.columns());
    detail::expect_size("Wkv7", "log_w", x.log_w.size(), s.columns());
    detail::expect_size("Wkv7", "k", x.k.size(), s.columns());
    detail::expect_size("Wkv7", "v", x.v.size(), s.rows());
    detail::expect_size("Wkv7", "kappa_hat", x.kappa_hat.size(), s.columns());
    detail::expect_size("Wkv7", "a", x.a.size(), s.columns());
    detail::expect_size("Wkv7", "y", y.size(), s.rows());
  }
};

}  // namespace aviary::reference
