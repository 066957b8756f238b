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
///
/// Its gradients, token by token from the last one. D is what reaches S' from the tokens after this one, E is all of it:
///
///     E  = D
///     dr = S'^T dy          E  = E + dy r^T                                       without u
///     dv = E k              dk = E^T v         dw[j] = sum_i S[i][j] E[i][j]
///     D  = E diag(w)
///     dz = E q              dq = E^T z         dp = S^T dz       D = D + dz p^T
///     dr = S^T dy + c u*k   dk = dk + c u*r    du = du + c r*k                    with u, c = v . dy
///     dv = dv + (r . u*k) dy                   D  = D + dy r^T                    with u
///
/// What reaches log_w is  dlog_w = w*dw,  which is 0 where w is.
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

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

/// Token, Inputs; step, forward (see memory.hpp), and backward.
template <class T = double> struct Recurrence : detail::Memory<detail::RecurrenceEquation, T> {
  using typename detail::Memory<detail::RecurrenceEquation, T>::Inputs;

  /// Where the gradients of the inputs are written to, in their shapes. What is left out is not wanted.
  struct Gradients {
    std::optional<MatView<T>> r = {}, w = {}, p = {}, q = {}, k = {}, v = {};  // (tokens, K), v (tokens, V)
    std::optional<VecView<T>> u = {};                                          // (K), the sum over tokens
  };

  /// The gradients of forward(s, x, y), from dy (tokens, V), what reaches the outputs, and ds (V x K), what reaches the
  /// last state. s is the state before the first token. ds becomes what reaches s, and dx is overwritten; they overlap
  /// no input.
  /// Throws std::invalid_argument when the sizes disagree, or a gradient is wanted of an input that x leaves out.
  /// Cost: about 40 K V flops a token, allocations, and room for the states before all tokens: no step is inverted.
  static void backward(MatView<T const> s, Inputs const& x, MatView<T const> dy, MatView<T> ds, Gradients const& dx) {
    check(s, x, dy, ds, dx);
    std::vector<Matrix> const states = states_of(s, x, dy.rows());
    Matrix D = detail::matrix<T>(ds), du(s.columns(), 1);
    for (Index t = dy.rows(); t-- > 0;)
      token_backward(states[to_size(t)], InputsOf::token(x, t), states[to_size(t + 1)], detail::column(dy[t]), D, du,
                     dx, t);
    store(D, ds);
    if (dx.u) store(du, *dx.u);
  }

 private:
  using Matrix = detail::Matrix<T>;
  using InputsOf = detail::InputsOf<detail::RecurrenceEquation, T>;

  /// The states before tokens 0, 1, ... and after the last.
  static std::vector<Matrix> states_of(MatView<T const> s, Inputs const& x, Index tokens) {
    std::vector<T> numbers(to_size(s.rows() * s.columns())), y(to_size(s.rows()));
    MatView<T> const state(numbers.data(), s.rows(), s.columns());
    store(detail::matrix<T>(s), state);
    std::vector<Matrix> states{detail::matrix<T>(s)};
    for (Index t = 0; t < tokens; ++t) {
      Recurrence::step(state, InputsOf::token(x, t), y);
      states.push_back(detail::matrix<T>(state));
    }
    return states;
  }

  /// Token t, from S to `after`: D becomes what reaches S, du is added to, and dx gets its rows.
  static void token_backward(Matrix const& S, typename Recurrence::Token const& x, Matrix const& after,
                             Matrix const& dy, Matrix& D, Matrix& du, Gradients const& dx, Index t) {
    Matrix const r = detail::column(x.r), k = detail::column(x.k), v = detail::column(x.v);
    Matrix E = D, dr = transpose(after) * dy;
    if (!x.u) E = E + dy * transpose(r);
    Matrix dv = E * k, dk = transpose(E) * v;
    keep(dx.w, t, column_sums(elementwise(S, E)));
    D = x.w ? detail::make<T>(E.rows(), E.columns(), [&](Index i, Index j) { return E(i, j) * (*x.w)[j]; }) : E;
    if (x.p) {
      Matrix const p = detail::column(*x.p), q = detail::column(*x.q), z = S * p, dz = E * q;
      keep(dx.q, t, transpose(E) * z);
      keep(dx.p, t, transpose(S) * dz);
      D = D + dz * transpose(p);
    }
    if (x.u) {
      Matrix const u = detail::column(*x.u);
      T const c = dot(v, dy);
      dr = transpose(S) * dy + c * elementwise(u, k);
      dk = dk + c * elementwise(u, r);
      du = du + c * elementwise(r, k);
      dv = dv + dot(r, elementwise(u, k)) * dy;
      D = D + dy * transpose(r);
    }
    keep(dx.r, t, dr);
    keep(dx.k, t, dk);
    keep(dx.v, t, dv);
  }

  static Matrix column_sums(Matrix const& x) {
    return transpose(x) * detail::make<T>(x.rows(), 1, [](Index, Index) { return T(1); });
  }
  static void keep(std::optional<MatView<T>> const& to, Index t, Matrix const& x) {
    if (to) store(x, (*to)[t]);
  }

  static void check(MatView<T const> s, Inputs const& x, MatView<T const> dy, MatView<T const> ds,
                    Gradients const& dx) {
    Index const tokens = dy.rows(), keys = s.columns(), values = s.rows();
    InputsOf::check(x, tokens);
    expect("dy", dy.columns(), values);
    expect("ds (values)", ds.rows(), values);
    expect("ds (keys)", ds.columns(), keys);
    auto const check_rows = [&](std::string const& name, auto const& to, bool given, Index size) {
      if (!to) return;
      check_given(name, given);
      expect(name + " (tokens)", to->rows(), tokens);
      expect(name, to->columns(), size);
    };
    check_rows("dr", dx.r, true, keys);
    check_rows("dw", dx.w, x.w.has_value(), keys);
    check_rows("dp", dx.p, x.p.has_value(), keys);
    check_rows("dq", dx.q, x.q.has_value(), keys);
    check_rows("dk", dx.k, true, keys);
    check_rows("dv", dx.v, true, values);
    if (dx.u) {
      check_given("du", x.u.has_value());
      expect("du", dx.u->size(), keys);
    }
  }
  static void check_given(std::string const& name, bool given) {
    if (!given)
      throw std::invalid_argument("aviary::reference::Recurrence: " + name + " is wanted, but the inputs leave out " +
                                  name.substr(1));
  }
  static void expect(std::string const& name, Index have, Index want) {
    detail::expect_size(detail::RecurrenceEquation::model, name, have, want);
  }
};

}  // namespace AVIARY_NAMESPACE::reference
