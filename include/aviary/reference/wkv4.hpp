#pragma once
/// WKV-4 word for word, all channels, slow and obvious: to debug other code against.
///
///     num' = w num + e^k v         den' = w den + e^k          w = exp(log_w)
///     y    = (num + e^(u + k) v) / (den + e^(u + k))
///
/// per channel. The output reads the sums before the token. e^k overflows, so the sums are kept as num = aa e^pp and
/// den = bb e^pp, and every exponential is taken relative to the largest:
///
///     m  = max(pp, u + k)         e1 = exp(pp - m)             e2 = exp(u + k - m)
///     y  = (e1 aa + e2 v) / (e1 bb + e2)
///     m' = max(pp + log_w, k)     f1 = exp(pp + log_w - m')    f2 = exp(k - m')
///     aa' = f1 aa + f2 v          bb' = f1 bb + f2             pp' = m'
///
/// The empty context is aa = bb = 0, pp = -1e30. (aa e^c, bb e^c, pp - c) is the same state for any c.
/// Paper: "RWKV: Reinventing RNNs for the Transformer Era", arXiv 2305.13048.
#include <algorithm>
#include <cmath>

#include "aviary/core/config.hpp"
#include "aviary/core/view.hpp"
#include "aviary/reference/check.hpp"

namespace aviary::reference {

template <class T = double> struct Wkv4 {
  using Vector = VecView<T const>;
  using Matrix = MatView<T const>;

  struct State {
    VecView<T> aa, bb, pp;  // (C) each
  };

  /// One token.
  struct Token {
    Vector log_w;  // (C), <= 0, the same for all tokens
    Vector k, v;   // (C) each
    Vector u;      // (C), the same for all tokens
  };

  /// A sequence: row t belongs to token t.
  struct Inputs {
    Vector log_w;  // (C)
    Matrix k, v;   // (tokens, C) each
    Vector u;      // (C)
  };

  /// Advances s by one token and writes the output y (C), which overlaps no input.
  /// Throws std::invalid_argument when the sizes disagree. Cost: 4 exponentials per channel.
  static void step(State const& s, Token const& x, VecView<T> y) {
    using std::exp;
    check(s, x, y);
    for (Index c = 0; c < y.size(); ++c) {
      T &aa = s.aa[c], &bb = s.bb[c], &pp = s.pp[c];
      T const log_w = x.log_w[c], k = x.k[c], v = x.v[c], u = x.u[c];

      T const m = std::max(pp, u + k), e1 = exp(pp - m), e2 = exp(u + k - m);
      y[c] = (e1 * aa + e2 * v) / (e1 * bb + e2);

      T const next = std::max(pp + log_w, k), f1 = exp(pp + log_w - next), f2 = exp(k - next);
      aa = f1 * aa + f2 * v;
      bb = f1 * bb + f2;
      pp = next;
    }
  }

  /// Advances s by all tokens of a sequence; row t of y (tokens, C) is the output of token t.
  static void forward(State const& s, Inputs const& x, MatView<T> y) {
    detail::TokenCounts("Wkv4", y.rows())("k", x.k)("v", x.v);
    for (Index t = 0; t < y.rows(); ++t) step(s, {.log_w = x.log_w, .k = x.k[t], .v = x.v[t], .u = x.u}, y[t]);
  }

 private:
  static void check(State const& s, Token const& x, VecView<T> y) {
    detail::expect_size("Wkv4", "aa", s.aa.size(), y.size());
    detail::expect_size("Wkv4", "bb", s.bb.size(), y.size());
    detail::expect_size("Wkv4", "pp", s.pp.size(), y.size());
    detail::expect_size("Wkv4", "log_w", x.log_w.size(), y.size());
    detail::expect_size("Wkv4", "k", x.k.size(), y.size());
    detail::expect_size("Wkv4", "v", x.v.size(), y.size());
    detail::expect_size("Wkv4", "u", x.u.size(), y.size());
  }
};

}  // namespace aviary::reference
