#pragma once
/// DPLR, the general diagonal-plus-low-rank recurrence: every rule of the family with an erasure is a case of it.
///
///   S' = S (diag(w) + alpha beta^T) + v k^T            y = S' q
///
/// per head, with S of V x K numbers and w = exp(log_w). alpha reads the state before its decay and beta is where that
/// reading is written; unrestricted, the recurrence is unstable: keep alpha and beta roughly opposite, |alpha| |beta| <= 1.
/// The scale of q (1/sqrt(K) in published layers) is the caller's.
#include "aviary/matrix/memory.hpp"

namespace aviary {

struct DplrRule {
  static constexpr Gate gate = Gate::vector;
  static constexpr Erase erase = Erase::free;
  static constexpr Read read = Read::after;
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> q, log_w, k;  // (K) each, log_w <= 0
    Per<Axis::value> v;          // (V)
    Per<Axis::key> alpha, beta;  // (K) each
  };
  template <class Terms> AVIARY_HOST_DEVICE static constexpr Terms map(auto const& x) {
    return {.r = x.q, .p = x.alpha, .q = x.beta, .k = x.k, .v = x.v};
  }
};

template <class T, Index K, Index V = K> using Dplr = MatrixMemory<DplrRule, T, K, V>;

}  // namespace aviary
