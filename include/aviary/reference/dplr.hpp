#pragma once
/// DPLR and IPLR word for word, one head, slow and obvious: to debug other code against.
///
///     Dplr    S' = S (diag(w) + alpha beta^T) + v k^T          y = S' q          w = exp(log_w)
///     Iplr    S' = S (I + alpha beta^T) + v k^T                y = S' q
///
/// alpha reads the state before its decay, along beta that reading is written. S is V x K, as in the papers; the scale of q
/// is the caller's.
#include "aviary/reference/memory.hpp"

namespace AVIARY_NAMESPACE::reference {
namespace detail {

struct DplrEquation {
  static constexpr char const* model = "Dplr";
  static constexpr std::array names{"q", "log_w", "k", "v", "alpha", "beta"};
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> q, log_w, k;  // (K) each, log_w <= 0
    Per<Axis::value> v;          // (V)
    Per<Axis::key> alpha, beta;  // (K) each
  };
  template <class T> static void step(Matrix<T>& S, auto const& x, Matrix<T>& y) {
    auto const& [q, log_w, k, v, alpha, beta] = x;
    auto const w = exp(log_w);
    S = S * (diag(w) + alpha * transpose(beta)) + v * transpose(k);
    y = S * q;
  }
};

struct IplrEquation {
  static constexpr char const* model = "Iplr";
  static constexpr std::array names{"q", "k", "v", "alpha", "beta"};
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> q, k;         // (K) each
    Per<Axis::value> v;          // (V)
    Per<Axis::key> alpha, beta;  // (K) each
  };
  template <class T> static void step(Matrix<T>& S, auto const& x, Matrix<T>& y) {
    auto const& [q, k, v, alpha, beta] = x;
    auto const I = identity<T>(S.columns());
    S = S * (I + alpha * transpose(beta)) + v * transpose(k);
    y = S * q;
  }
};

}  // namespace detail

template <class T = double> using Dplr = detail::Memory<detail::DplrEquation, T>;
template <class T = double> using Iplr = detail::Memory<detail::IplrEquation, T>;

}  // namespace AVIARY_NAMESPACE::reference
