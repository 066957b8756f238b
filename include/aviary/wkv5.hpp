#pragma once
/// WKV-5, the memory of RWKV-5 "Eagle" (Peng et al. 2024, arXiv:2404.05892).
///
///   y = S r + (r . (u*k)) v            S' = S diag(w) + v k^T
///
/// per head, with S of V x K numbers; the decay w = exp(log_w) and the bonus u belong to the head and do not change with
/// time. Version 5.2 has K of each, 5.0 and 5.1 have one. A constant decay is applied as an increment,
/// S + S expm1(log_w): a factor rounded once would repeat its error at every token.
#include "aviary/matrix/memory.hpp"

namespace AVIARY_NAMESPACE {

/// Decay: Axis::head_key (5.2) or Axis::head_one (5.0, 5.1).
template <Axis decay> struct Wkv5Rule {
  static constexpr char const* name = decay == Axis::head_key ? "wkv5" : "wkv5_per_head";
  static constexpr Erase erase = Erase::none;
  static constexpr Read read = Read::before;
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> r;    // (K)
    Per<decay> log_w;    // (K) or one of a head, <= 0
    Per<Axis::key> k;    // (K)
    Per<Axis::value> v;  // (V)
    Per<decay> u;        // (K) or one of a head
  };
  template <class Terms> AVIARY_HOST_DEVICE static constexpr Terms map(auto const& x) {
    return {.r = x.r, .k = x.k, .v = x.v, .u = x.u};
  }
  template <class Gradients> AVIARY_HOST_DEVICE static constexpr Gradients pull(auto const&, auto const& d) {
    return {.r = d.r, .log_w = d.log_w, .k = d.k, .v = d.v, .u = d.u};
  }
};

/// Version 5.2: K decays and bonuses per head.
template <class T, Index K, Index V = K, Stored S = T> using Wkv5 = MatrixMemory<Wkv5Rule<Axis::head_key>, T, K, V, S>;

/// Versions 5.0 and 5.1: one decay and one bonus per head.
template <class T, Index K, Index V = K, Stored S = T>
using Wkv5PerHead = MatrixMemory<Wkv5Rule<Axis::head_one>, T, K, V, S>;

}  // namespace AVIARY_NAMESPACE
