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

#include "aviary/reference/memory.hpp"

namespace AVIARY_NAMESPACE::reference {
namespace detail {

struct Wkv7Equation {
  static constexpr char const* model = "Wkv7";
  static constexpr std::array names{"r", "log_w", "k", "v", "kappa_hat", "a"};
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> r, log_w, k;   // (K) each, log_w <= 0
    Per<Axis::value> v;           // (V)
    Per<Axis::key> kappa_hat, a;  // (K) each, |kappa_hat| = 1
  };
  template <class T> static void step(MatView<T> s, auto const& x, VecView<T> y) {
    std::vector<T> w;
    for (T const log_w : x.log_w) w.push_back(std::exp(log_w));
    for (Index i = 0; i < s.rows(); ++i) {
      T s_kappa_hat(0);
      for (Index m = 0; m < s.columns(); ++m) s_kappa_hat += s(i, m) * x.kappa_hat[m];
      for (Index j = 0; j < s.columns(); ++j)
        s(i, j) = s(i, j) * w[to_size(j)] - s_kappa_hat * (x.a[j] * x.kappa_hat[j]) + x.v[i] * x.k[j];
      y[i] = T(0);
      for (Index j = 0; j < s.columns(); ++j) y[i] += s(i, j) * x.r[j];
    }
  }
};

}  // namespace detail

template <class T = double> using Wkv7 = detail::Memory<detail::Wkv7Equation, T>;

}  // namespace AVIARY_NAMESPACE::reference
