#pragma once
/// WKV-6, the memory of RWKV-6 "Finch" (Peng et al. 2024, arXiv:2404.05892), and Finch-C2, its form in GoldFinch (Goldstein
/// et al. 2024, arXiv:2407.12077).
///
///   y = S r + (r . (u*k)) v            S' = S diag(w) + v k^T
///
/// per head, with S of V x K numbers, w = exp(log_w) in [0, 1] of every token, and the bonus u of a head. y reads the state
/// before the update; the current token enters it through u alone.
#include "aviary/matrix/memory.hpp"

namespace AVIARY_NAMESPACE {

struct Wkv6Rule {
  static constexpr char const* name = "wkv6";
  static constexpr Erase erase = Erase::none;
  static constexpr Read read = Read::before;
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> r, log_w, k;  // (K) each, log_w <= 0
    Per<Axis::value> v;          // (V)
    Per<Axis::head_key> u;       // (K) of a head
  };
  template <class Terms> AVIARY_HOST_DEVICE static constexpr Terms map(auto const& x) {
    return {.r = x.r, .k = x.k, .v = x.v, .u = x.u};
  }
  template <class Gradients> AVIARY_HOST_DEVICE static constexpr Gradients pull(auto const&, auto const& d) {
    return {.r = d.r, .log_w = d.log_w, .k = d.k, .v = d.v, .u = d.u};
  }
};

template <class T, Index K, Index V = K, Stored S = T> using Wkv6 = MatrixMemory<Wkv6Rule, T, K, V, S>;

/// Finch-C2: u = 0, and the key is weighed with what the decay has left room for,
///   y = S r            S' = S diag(w) + v ((1 - w)*k)^T
struct FinchC2Rule {
  static constexpr char const* name = "finch_c2";
  static constexpr Erase erase = Erase::none;
  static constexpr Read read = Read::before;
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> r, log_w, k;  // (K) each, log_w <= 0
    Per<Axis::value> v;          // (V)
  };
  template <class Terms> AVIARY_HOST_DEVICE static constexpr Terms map(auto const& x) {
    return {.r = x.r, .k = x.k - x.w * x.k, .v = x.v, .u = 0.f};
  }
  template <class Gradients> AVIARY_HOST_DEVICE static constexpr Gradients pull(auto const& x, auto const& d) {
    return {.r = d.r, .log_w = d.log_w - x.w * x.k * d.k, .k = d.k - x.w * d.k, .v = d.v};
  }
};

template <class T, Index K, Index V = K, Stored S = T> using FinchC2 = MatrixMemory<FinchC2Rule, T, K, V, S>;

}  // namespace AVIARY_NAMESPACE
