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

#include "aviary/reference/fields.hpp"

namespace AVIARY_NAMESPACE::reference {
namespace detail {

/// The inputs, with one number for each channel: a channel is its own key and value.
struct Wkv4Inputs {
  static constexpr char const* model = "Wkv4";
  static constexpr std::array names{"log_w", "k", "v", "u"};
  template <template <Axis> class Per> struct Fields {
    Per<Axis::head_key> log_w;  // (C), <= 0, the same for all tokens
    Per<Axis::key> k, v;        // (C) each
    Per<Axis::head_key> u;      // (C), the same for all tokens
  };
};

}  // namespace detail

template <class T = double> struct Wkv4 {
  struct State {
    VecView<T> aa, bb, pp;  // (C) each
  };
  using Token = typename detail::InputsOf<detail::Wkv4Inputs, T>::Token;

  /// A sequence: row t of k and v, (tokens, C) each, belongs to token t.
  using Inputs = typename detail::InputsOf<detail::Wkv4Inputs, T>::Sequence;

  /// Advances s by one token and writes the output y (C), which overlaps no input.
  /// Throws std::invalid_argument when the sizes disagree. Cost: 4 exponentials per channel.
  static void step(State const& s, Token const& x, VecView<T> y) {
    using std::exp;
    detail::expect_size("Wkv4", "aa", s.aa.size(), y.size());
    detail::expect_size("Wkv4", "bb", s.bb.size(), y.size());
    detail::expect_size("Wkv4", "pp", s.pp.size(), y.size());
    detail::InputsOf<detail::Wkv4Inputs, T>::check(x, y.size(), y.size());
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
    using detail::InputsOf, detail::Wkv4Inputs;
    InputsOf<Wkv4Inputs, T>::check(x, y.rows());
    for (Index t = 0; t < y.rows(); ++t) step(s, InputsOf<Wkv4Inputs, T>::token(x, t), y[t]);
  }
};

}  // namespace AVIARY_NAMESPACE::reference
