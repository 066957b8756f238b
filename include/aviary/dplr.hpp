#pragma once
/// DPLR and IPLR, a diagonal or the identity plus a matrix of low rank: every rule with an erasure is a case of DPLR.
///
///   DPLR   S' = S (diag(w) + alpha beta^T) + v k^T            y = S' q
///   IPLR   S' = S (I + alpha beta^T) + v k^T                  y = S' q
///
/// per head, with S of V x K numbers and w = exp(log_w). alpha reads the state before its decay and beta is where that
/// reading is written; unrestricted, the recurrence is unstable: keep alpha and beta roughly opposite, |alpha| |beta| <= 1.
/// The scale of q (1/sqrt(K) in published layers) is the caller's.
#include "aviary/matrix/memory.hpp"

namespace AVIARY_NAMESPACE {

struct DplrRule {
  static constexpr char const* name = "dplr";
  static constexpr Erase erase = Erase::rank_one;
  static constexpr Read read = Read::after;
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> q, log_w, k;  // (K) each, log_w <= 0
    Per<Axis::value> v;          // (V)
    Per<Axis::key> alpha, beta;  // (K) each
  };
  template <class Terms> AVIARY_HOST_DEVICE static constexpr Terms map(auto const& x) {
    return {.r = x.q, .p = x.alpha, .q = x.beta, .k = x.k, .v = x.v};
  }
  template <class Gradients> AVIARY_HOST_DEVICE static constexpr Gradients pull(auto const&, auto const& d) {
    return {.q = d.r, .log_w = d.log_w, .k = d.k, .v = d.v, .alpha = d.p, .beta = d.q};
  }
};

struct IplrRule {
  static constexpr char const* name = "iplr";
  static constexpr Erase erase = Erase::rank_one;
  static constexpr Read read = Read::after;
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> q, k;         // (K) each
    Per<Axis::value> v;          // (V)
    Per<Axis::key> alpha, beta;  // (K) each
  };
  template <class Terms> AVIARY_HOST_DEVICE static constexpr Terms map(auto const& x) {
    return {.r = x.q, .p = x.alpha, .q = x.beta, .k = x.k, .v = x.v};
  }
  template <class Gradients> AVIARY_HOST_DEVICE static constexpr Gradients pull(auto const&, auto const& d) {
    return {.q = d.r, .k = d.k, .v = d.v, .alpha = d.p, .beta = d.q};
  }
};

template <class T, Index K, Index V = K, Stored S = T> using Iplr = MatrixMemory<IplrRule, T, K, V, S>;
template <class T, Index K, Index V = K, Stored S = T> using Dplr = MatrixMemory<DplrRule, T, K, V, S>;

}  // namespace AVIARY_NAMESPACE
