#pragma once
/// WKV-7, the memory of RWKV-7 "Goose" (Peng et al. 2025, arXiv:2503.14456).
///
///   S' = S (diag(w) - kappa_hat (a*kappa_hat)^T) + v k^T            y = S' r
///
/// per head, with S of V x K numbers (V = K = head size in RWKV), w = exp(log_w) in (0, 1], kappa_hat of unit length (the
/// removal key), a in (0, 1) (the in-context learning rate) and k the key that the layer has already scaled by its rate.
/// The probe S kappa_hat meets the state before its decay, and y reads the state after the update.
///
/// These ranges do not bound the state. diag(w) - kappa_hat (a*kappa_hat)^T is not symmetric where a differs between keys:
/// with log_w = 0 its norm may exceed 1, and a state has overflowed after 602 tokens that wrote nothing. With the decays of
/// trained layers, log_w <= -exp(-1/2) sigmoid(..), or with one a for the whole head, this does not happen.
#include "aviary/matrix/memory.hpp"

namespace AVIARY_NAMESPACE {

struct Wkv7Rule {
  static constexpr char const* name = "wkv7";
  static constexpr Erase erase = Erase::rank_one;
  static constexpr Read read = Read::after;
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> r, log_w, k;   // (K) each, log_w <= 0
    Per<Axis::value> v;           // (V)
    Per<Axis::key> kappa_hat, a;  // (K) each, |kappa_hat| = 1
  };
  template <class Terms> AVIARY_HOST_DEVICE static constexpr Terms map(auto const& x) {
    return {.r = x.r, .p = -x.kappa_hat, .q = x.a * x.kappa_hat, .k = x.k, .v = x.v};
  }
  template <class Gradients> AVIARY_HOST_DEVICE static constexpr Gradients pull(auto const& x, auto const& d) {
    return {.r = d.r, .log_w = d.log_w, .k = d.k, .v = d.v, .kappa_hat = x.a * d.q - d.p, .a = x.kappa_hat * d.q};
  }
};

/// State, Token, Inputs; step, forward. Published names of (-kappa_hat, a*kappa_hat) are (a, b) or (z, a).
template <class T, Index K, Index V = K, Stored S = T> using Wkv7 = MatrixMemory<Wkv7Rule, T, K, V, S>;

}  // namespace AVIARY_NAMESPACE
