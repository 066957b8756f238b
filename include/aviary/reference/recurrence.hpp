#pragma once
/// The recurrence that every matrix memory is an instance of, one head, slow and obvious: to debug other code against.
///
///     z  = S p                                      V numbers, read before anything is written
///     S' = S diag(w) + z q^T + v k^T                V x K
///     y  = S' r                                     without u
///     y  = S r + (sum_j r[j] u[j] k[j]) v           with u: the output reads the old state, the current token by u
///
/// In indices, with value index i and key index j:
///
///     S'[i][j] = S[i][j] w[j] + (sum_m S[i][m] p[m]) q[j] + v[i] k[j]
///
/// S is V x K here, as in the papers: row i belongs to value i. (The states of the kernels lie the other way round.)
/// w is the decay factor itself, not its logarithm; q carries the minus sign of an erasure.
#include <optional>
#include <stdexcept>

#include "aviary/reference/memory.hpp"

namespace AVIARY_NAMESPACE::reference {
namespace detail {

/// What is left out is not in the equation: no w is w = 1, no p and q is no erasure.
struct RecurrenceEquation {
  static constexpr char const* model = "Recurrence";
  static constexpr std::array names{"r", "w", "p", "q", "k", "v", "u"};
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> r;                      // (K)
    std::optional<Per<Axis::key>> w = {};  // (K)
    std::optional<Per<Axis::key>> p = {};  // (K), with q or not at all
    std::optional<Per<Axis::key>> q = {};  // (K)
    Per<Axis::key> k;                      // (K)
    Per<Axis::value> v;                    // (V)
    std::optional<Per<Axis::head_key>> u =
        {};  // (K); given, even as zeros, the output reads the state before the update
  };
  template <class T> static void step(MatView<T> s, auto const& x, VecView<T> y) {
    if (x.p.has_value() != x.q.has_value())
      throw std::invalid_argument("aviary::reference::Recurrence: p and q come together, one of them is missing");
    for (Index i = 0; i < s.rows(); ++i) {
      if (x.u) y[i] = row_times(s, i, x.r) + bonus<T>(x) * x.v[i];
      T const z = x.p ? row_times(s, i, *x.p) : T(0);
      for (Index j = 0; j < s.columns(); ++j) {
        T updated = x.w ? s(i, j) * (*x.w)[j] : s(i, j);
        if (x.q) updated += z * (*x.q)[j];
        s(i, j) = updated + x.v[i] * x.k[j];
      }
      if (!x.u) y[i] = row_times(s, i, x.r);
    }
  }

 private:
  /// sum_j s[i][j] x[j]
  template <class T> static T row_times(MatView<T> s, Index i, VecView<T const> x) {
    T sum(0);
    for (Index j = 0; j < s.columns(); ++j) sum += s(i, j) * x[j];
    return sum;
  }
  /// sum_j r[j] u[j] k[j]
  template <class T> static T bonus(auto const& x) {
    T sum(0);
    for (Index j = 0; j < x.r.size(); ++j) sum += x.r[j] * (*x.u)[j] * x.k[j];
    return sum;
  }
};

}  // namespace detail

template <class T = double> using Recurrence = detail::Memory<detail::RecurrenceEquation, T>;

}  // namespace AVIARY_NAMESPACE::reference
