#pragma once
/// A matrix memory around its equation, one head: what all references but the equations have in common, slow and obvious.
///
///     struct LinearAttentionEquation {
///       static constexpr char const* model = "LinearAttention";
///       static constexpr std::array names{"q", "k", "v"};
///       template <template <Axis> class Per> struct Fields {
///         Per<Axis::key> q, k;
///         Per<Axis::value> v;
///       };
///       template <class T> static void step(Matrix<T>& S, auto const& x, Matrix<T>& y) {
///         auto const& [q, k, v] = x;  // columns, and a number where a field has one
///         S = S + v * transpose(k);
///         y = S * q;
///       }
///     };
///     template <class T = double> using LinearAttention = Memory<LinearAttentionEquation, T>;
///
/// An equation that is written in indices has step(MatView<T> s, auto const& x, VecView<T> y) instead, and gets a Token.
#include "aviary/reference/algebra.hpp"
#include "aviary/reference/fields.hpp"

namespace AVIARY_NAMESPACE::reference::detail {

/// The fields of one token as an equation has them.
template <class T> struct AlgebraFields {
  template <Axis A> using Per = std::conditional_t<one_number(A), T, Matrix<T>>;
};

template <class Equation, class T> struct Memory {
  /// One token: a view of K or V numbers, or a number, for each field.
  using Token = typename InputsOf<Equation, T>::Token;

  /// A sequence: row t of a field, (tokens, K) or (tokens, V), or its number t, (tokens), belongs to token t. What does
  /// not change with time is as in a token.
  using Inputs = typename InputsOf<Equation, T>::Sequence;

  /// Advances s (V x K) by one token and writes the output y (V), which overlaps no input.
  /// Throws std::invalid_argument when the sizes disagree. Cost: 2 K^2 V flops for each product of a state and a matrix of
  /// keys, and allocations; about 10 K V flops where the equation is in indices.
  static void step(MatView<T> s, Token const& x, VecView<T> y) {
    expect_size(Equation::model, "y", y.size(), s.rows());
    InputsOf<Equation, T>::check(x, s.columns(), s.rows());
    if constexpr (requires { Equation::step(s, x, y); }) {  // in indices
      Equation::step(s, x, y);
    } else {
      Matrix<T> state = matrix<T>(s), output(y.size(), 1);
      Equation::step(state, in_algebra(x), output);
      store(state, s);
      store(output, y);
    }
  }

  /// Advances s by all tokens of a sequence; row t of y (tokens, V) is the output of token t.
  static void forward(MatView<T> s, Inputs const& x, MatView<T> y) {
    InputsOf<Equation, T>::check(x, y.rows());
    for (Index t = 0; t < y.rows(); ++t) step(s, InputsOf<Equation, T>::token(x, t), y[t]);
  }

 private:
  static auto in_algebra(Token const& x) {
    using Fields = typename Equation::template Fields<AlgebraFields<T>::template Per>;
    return transform_fields<Equation, Fields>(x, []<Axis A>(AxisTag<A>, char const*, auto const& field) {
      if constexpr (one_number(A))
        return field.value;
      else
        return column(field);
    });
  }
};

}  // namespace AVIARY_NAMESPACE::reference::detail
