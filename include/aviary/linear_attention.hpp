#pragma once
/// Linear attention and its gated kin: a memory that is written and decays, and is never corrected.
///
///   S' = S diag(w) + v k^T            y = S' q
///
/// per head, with S of V x K numbers and w = exp(log_w). What differs is the decay:
///
///   LinearAttention   none                        Katharopoulos et al. 2020, arXiv:2006.16236 (without its normaliser)
///   RetNet            one of a head, constant     Sun et al. 2023, arXiv:2307.08621
///   SimpleGla         one of every token          the decay of Mamba-2, Dao and Gu 2024, arXiv:2405.21060
///   Gla               K of every token            Yang et al. 2024, arXiv:2312.06635
///
/// The scale of q (1/sqrt(K) in published layers) is the caller's: query_scale in layers/functions.hpp.
#include "aviary/matrix/memory.hpp"

namespace AVIARY_NAMESPACE {

struct LinearAttentionRule {
  static constexpr char const* name = "linear_attention";
  static constexpr Erase erase = Erase::none;
  static constexpr Read read = Read::after;
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> q, k;  // (K) each
    Per<Axis::value> v;   // (V)
  };
  template <class Terms> AVIARY_HOST_DEVICE static constexpr Terms map(auto const& x) {
    return {.r = x.q, .k = x.k, .v = x.v};
  }
  template <class Gradients> AVIARY_HOST_DEVICE static constexpr Gradients pull(auto const&, auto const& d) {
    return {.q = d.r, .k = d.k, .v = d.v};
  }
};

/// Decay: Axis::head_one (RetNet), Axis::one (simple GLA) or Axis::key (GLA).
template <Axis decay> struct GatedLinearAttentionRule {
  static constexpr char const* name = decay == Axis::key ? "gla" : decay == Axis::one ? "simple_gla" : "retnet";
  static constexpr Erase erase = Erase::none;
  static constexpr Read read = Read::after;
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> q, k;  // (K) each
    Per<Axis::value> v;   // (V)
    Per<decay> log_w;     // (K) or one, <= 0
  };
  template <class Terms> AVIARY_HOST_DEVICE static constexpr Terms map(auto const& x) {
    return {.r = x.q, .k = x.k, .v = x.v};
  }
  template <class Gradients> AVIARY_HOST_DEVICE static constexpr Gradients pull(auto const&, auto const& d) {
    return {.q = d.r, .k = d.k, .v = d.v, .log_w = d.log_w};
  }
};

template <class T, Index K, Index V = K, Stored S = T>
using LinearAttention = MatrixMemory<LinearAttentionRule, T, K, V, S>;
template <class T, Index K, Index V = K, Stored S = T>
using RetNet = MatrixMemory<GatedLinearAttentionRule<Axis::head_one>, T, K, V, S>;
template <class T, Index K, Index V = K, Stored S = T>
using SimpleGla = MatrixMemory<GatedLinearAttentionRule<Axis::one>, T, K, V, S>;
template <class T, Index K, Index V = K, Stored S = T>
using Gla = MatrixMemory<GatedLinearAttentionRule<Axis::key>, T, K, V, S>;

}  // namespace AVIARY_NAMESPACE
