#pragma once
/// The delta rule and its kin: before a value is written under a key, what the memory holds under that key is taken away.
///
///   DeltaNet           S' = S (I - beta k k^T) + beta v k^T                         Yang et al. 2024, arXiv:2406.06484
///   GatedDeltaNet      S' = w S (I - beta k k^T) + beta v k^T                       Yang et al. 2024, arXiv:2412.06464
///   Kda                S' = S diag(w) (I - beta k k^T) + beta v k^T                 Kimi Team 2025, arXiv:2510.26692
///   GatedDeltaNet2     S' = S diag(w) (I - (b*k) k^T) + (c*v) k^T                   two gates: b erases, c writes
///   Comba              S' = w S (I - beta p k^T) + beta v k^T                       Hu et al. 2025, arXiv:2506.02475
///
/// and y = S' q, per head, with S of V x K numbers and w = exp(log_w): the decay comes first, then the erasure. Keys have
/// unit length (normalize_plus in layers/functions.hpp) and 0 <= beta <= 2; otherwise states grow without bound. The scale of
/// q is the caller's.
///
/// Gated DeltaProduct (Siems et al. 2025, arXiv:2502.10297) takes n keys, values and betas per token: it is GatedDeltaNet
/// over n micro-steps a token, the gate on the first and the output of the last. See expand_gate below.
#include <span>

#include "aviary/matrix/memory.hpp"

namespace AVIARY_NAMESPACE {

struct DeltaNetRule {
  static constexpr char const* name = "delta_net";
  static constexpr Erase erase = Erase::along_key;
  static constexpr Read read = Read::after;
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> q, k;  // (K) each, |k| = 1
    Per<Axis::value> v;   // (V)
    Per<Axis::one> beta;  // in [0, 2]
  };
  template <class Terms> AVIARY_HOST_DEVICE static constexpr Terms map(auto const& x) {
    return {.r = x.q, .p = x.k, .k = x.beta * x.k, .v = x.v};
  }
  template <class Gradients> AVIARY_HOST_DEVICE static constexpr Gradients pull(auto const& x, auto const& d) {
    return {.q = d.r, .k = d.p + x.beta * d.k, .v = d.v, .beta = x.k * d.k};
  }
};

/// Decay: Axis::one (Gated DeltaNet) or Axis::key (KDA).
template <Axis decay> struct GatedDeltaRule {
  static constexpr char const* name = decay == Axis::key ? "kda" : "gated_delta_net";
  static constexpr Erase erase = Erase::along_key;
  static constexpr Read read = Read::after;
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> q, k;  // (K) each, |k| = 1
    Per<Axis::value> v;   // (V)
    Per<decay> log_w;     // one or (K), <= 0
    Per<Axis::one> beta;  // in [0, 2]
  };
  template <class Terms> AVIARY_HOST_DEVICE static constexpr Terms map(auto const& x) {
    return {.r = x.q, .p = x.w * x.k, .k = x.beta * x.k, .v = x.v};
  }
  template <class Gradients> AVIARY_HOST_DEVICE static constexpr Gradients pull(auto const& x, auto const& d) {
    return {.q = d.r, .k = x.w * d.p + x.beta * d.k, .v = d.v, .log_w = d.log_w + x.w * x.k * d.p, .beta = x.k * d.k};
  }
};

struct GatedDeltaNet2Rule {
  static constexpr char const* name = "gated_delta_net_2";
  static constexpr Erase erase = Erase::along_key;
  static constexpr Read read = Read::after;
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> q, k;   // (K) each, |k| = 1
    Per<Axis::value> v;    // (V)
    Per<Axis::key> log_w;  // (K), <= 0
    Per<Axis::key> b;      // (K), the erase gate
    Per<Axis::value> c;    // (V), the write gate
  };
  template <class Terms> AVIARY_HOST_DEVICE static constexpr Terms map(auto const& x) {
    return {.r = x.q, .p = x.w * x.b * x.k, .k = x.k, .v = x.c * x.v};
  }
  template <class Gradients> AVIARY_HOST_DEVICE static constexpr Gradients pull(auto const& x, auto const& d) {
    return {.q = d.r,
            .k = x.w * x.b * d.p + d.k,
            .v = x.c * d.v,
            .log_w = d.log_w + x.w * x.b * x.k * d.p,
            .b = x.w * x.k * d.p,
            .c = x.v * d.v};
  }
};

struct CombaRule {
  static constexpr char const* name = "comba";
  static constexpr Erase erase = Erase::along_key;
  static constexpr Read read = Read::after;
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> q, k;   // (K) each, |k| = 1
    Per<Axis::value> v;    // (V)
    Per<Axis::one> log_w;  // <= 0
    Per<Axis::key> p;      // (K), what is erased: in published layers b k with b in (0, 1)
    Per<Axis::one> beta;   // in [0, 1]
  };
  template <class Terms> AVIARY_HOST_DEVICE static constexpr Terms map(auto const& x) {
    return {.r = x.q, .p = x.w * x.p, .k = x.beta * x.k, .v = x.v};
  }
  template <class Gradients> AVIARY_HOST_DEVICE static constexpr Gradients pull(auto const& x, auto const& d) {
    return {
        .q = d.r, .k = x.beta * d.k, .v = d.v, .log_w = d.log_w + x.w * x.p * d.p, .p = x.w * d.p, .beta = x.k * d.k};
  }
};

template <class T, Index K, Index V = K, Stored S = T> using DeltaNet = MatrixMemory<DeltaNetRule, T, K, V, S>;
template <class T, Index K, Index V = K, Stored S = T>
using GatedDeltaNet = MatrixMemory<GatedDeltaRule<Axis::one>, T, K, V, S>;
template <class T, Index K, Index V = K, Stored S = T> using Kda = MatrixMemory<GatedDeltaRule<Axis::key>, T, K, V, S>;
template <class T, Index K, Index V = K, Stored S = T>
using GatedDeltaNet2 = MatrixMemory<GatedDeltaNet2Rule, T, K, V, S>;
template <class T, Index K, Index V = K, Stored S = T> using Comba = MatrixMemory<CombaRule, T, K, V, S>;

/// Gated DeltaProduct: the gates of n micro-steps a token, to[t * n ... t * n + n - 1] = (log_w[t], 0, ... 0) for each head.
/// With these, k, v and beta of (tokens * n, heads), and q and y `repeated(n)`, GatedDeltaNet::forward computes it:
///
///   GatedDeltaNet<float, 64>::forward({.x = {.q = Source<64>(q, tokens, heads).repeated(n), .k = {k, tokens * n, heads},
///                                            .v = {v, tokens * n, heads}, .log_w = {gates, tokens * n, heads},
///                                            .beta = {beta, tokens * n, heads}},
///                                      .y = Sink<64>(y, tokens, heads).repeated(n), .states = states});
///
/// @param log_w  (tokens, heads)     @param to  (tokens * n, heads), tokens * n * heads numbers
template <class T> void expand_gate(std::span<T const> log_w, Index heads, Index n, std::span<T> to) noexcept {
  AVIARY_ASSERT(heads > 0 && n > 0 && to.size() == log_w.size() * to_size(n) && log_w.size() % to_size(heads) == 0);
  Index const tokens = static_cast<Index>(log_w.size()) / heads;
  for (Index t = 0; t < tokens; ++t)
    for (Index m = 0; m < n; ++m)
      for (Index h = 0; h < heads; ++h)
        to[to_size((t * n + m) * heads + h)] = m == 0 ? log_w[to_size(t * heads + h)] : T(0);
}

}  // namespace AVIARY_NAMESPACE
