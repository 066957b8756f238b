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

#include "aviary/core/config.hpp"
#include "aviary/core/view.hpp"
#include "aviary/reference/check.hpp"

namespace aviary::reference {

template <class T = double> struct Recurrence {
  using Vector = VecView<T const>;
  using Matrix = MatView<T const>;

  /// One token. What is left out is not in the equation: no w is w = 1, no p and q is no erasure.
  struct Token {
    Vector r;                      // (K)
    std::optional<Vector> w = {};  // (K)
    std::optional<Vector> p = {};  // (K), with q or not at all
    std::optional<Vector> q = {};  // (K)
    Vector k;                      // (K)
    Vector v;                      // (V)
    std::optional<Vector> u = {};  // (K); given, even as zeros, the output reads the state before the update
  };

  /// A sequence: row t belongs to token t. u does not change with time.
  struct Inputs {
    Matrix r;                      // (tokens, K)
    std::optional<Matrix> w = {};  // (tokens, K)
    std::optional<Matrix> p = {};  // (tokens, K)
    std::optional<Matrix> q = {};  // (tokens, K)
    Matrix k;                      // (tokens, K)
    Matrix v;                      // (tokens, V)
    std::optional<Vector> u = {};  // (K)
  };

  /// Advances s (V x K) by one token and writes the output y (V), which overlaps no input.
  /// Throws std::invalid_argument when the sizes disagree. Cost: about 10 K V flops.
  static void step(MatView<T> s, Token const& x, VecView<T> y) {
    check(s, x, y);
    for (Index i = 0; i < s.rows(); ++i) {
      if (x.u) y[i] = row_times(s, i, x.r) + bonus(x) * x.v[i];
      T const z = x.p ? row_times(s, i, *x.p) : T(0);
      for (Index j = 0; j < s.columns(); ++j) {
        T updated = x.w ? s(i, j) * (*x.w)[j] : s(i, j);
        if (x.q) updated += z * (*x.q)[j];
        s(i, j) = updated + x.v[i] * x.k[j];
      }
      if (!x.u) y[i] = row_times(s, i, x.r);
    }
  }

  /// Advances s by all tokens of a sequence; row t of y (tokens, V) is the output of token t.
  static void forward(MatView<T> s, Inputs const& x, MatView<T> y) {
    Index const tokens = x.r.rows();
    detail::expect_size("Recurrence", "k (tokens)", x.k.rows(), tokens);
    detail::expect_size("Recurrence", "v (tokens)", x.v.rows(), tokens);
    detail::expect_size("Recurrence", "y (tokens)", y.rows(), tokens);
    if (x.w) detail::expect_size("Recurrence", "w (tokens)", x.w->rows(), tokens);
    if (x.p) detail::expect_size("Recurrence", "p (tokens)", x.p->rows(), tokens);
    if (x.q) detail::expect_size("Recurrence", "q (tokens)", x.q->rows(), tokens);
    for (Index t = 0; t < tokens; ++t)
      step(s, {.r = x.r[t], .w = row(x.w, t), .p = row(x.p, t), .q = row(x.q, t), .k = x.k[t], .v = x.v[t], .u = x.u},
           y[t]);
  }

 private:
  /// sum_j s[i][j] x[j]
  static T row_times(MatView<T> s, Index i, Vector x) {
    T sum(0);
    for (Index j = 0; j < s.columns(); ++j) sum += s(i, j) * x[j];
    return sum;
  }
  /// sum_j r[j] u[j] k[j]
  static T bonus(Token const& x) {
    T sum(0);
    for (Index j = 0; j < x.r.size(); ++j) sum += x.r[j] * (*x.u)[j] * x.k[j];
    return sum;
  }
  static std::optional<Vector> row(std::optional<Matrix> const& m, Index t) {
    return m ? std::optional<Vector>((*m)[t]) : std::nullopt;
  }
  static void check(MatView<T> s, Token const& x, VecView<T> y) {
    if (x.p.has_value() != x.q.has_value())
      throw std::invalid_argument("aviary::reference::Recurrence: p and q come together, one of them is missing");
    detail::expect_size("Recurrence", "r", x.r.size(), s.columns());
    if (x.w) detail::expect_size("Recurrence", "w", x.w->size(), s.columns());
    if (x.p) detail::expect_size("Recurrence", "p", x.p->size(), s.columns());
    if (x.q) detail::expect_size("Recurrence", "q", x.q->size(), s.columns());
    detail::expect_size("Recurrence", "k", x.k.size(), s.columns());
    detail::expect_size("Recurrence", "v", x.v.size(), s.rows());
    if (x.u) detail::expect_size("Recurrence", "u", x.u->size(), s.columns());
    detail::expect_size("Recurrence", "y", y.size(), s.rows());
  }
};

}  // namespace aviary::reference
