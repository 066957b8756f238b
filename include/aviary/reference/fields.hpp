#pragma once
/// The inputs of a reference, said once. A model names its fields and says what each has one number for:
///
///     struct RetNetEquation {
///       static constexpr char const* model = "RetNet";
///       static constexpr std::array names{"q", "k", "v", "log_w"};  // of the fields, in their order
///       template <template <Axis> class Per> struct Fields {
///         Per<Axis::key> q, k;
///         Per<Axis::value> v;
///         Per<Axis::head_one> log_w;
///       };
///     };
///
/// InputsOf<RetNetEquation, T> makes of it one token, a sequence, and the checks of both.
#include <array>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "aviary/core/config.hpp"
#include "aviary/core/view.hpp"
#include "aviary/reference/check.hpp"

namespace AVIARY_NAMESPACE::reference::detail {

/// A field has one number for each key, for each value, or just one: for every token, or (head_) for all tokens of a head.
enum class Axis { key, value, one, head_key, head_one };
constexpr bool per_token(Axis a) { return a == Axis::key || a == Axis::value || a == Axis::one; }
constexpr bool one_number(Axis a) { return a == Axis::one || a == Axis::head_one; }

template <Axis A> struct AxisTag {};

/// The fields of one token: views of K or V numbers, and numbers.
template <class T> struct TokenFields {
  template <Axis A> using Per = std::conditional_t<one_number(A), Required<T>, VecView<T const>>;
};
/// The fields of a sequence: where a token has a view of n numbers, (tokens, n); where it has a number, (tokens). What
/// belongs to the head is as in a token.
template <class T> struct SequenceFields {
  template <Axis A> using Rows = std::conditional_t<one_number(A), VecView<T const>, MatView<T const>>;
  template <Axis A> using Per = std::conditional_t<per_token(A), Rows<A>, typename TokenFields<T>::template Per<A>>;
};

/// References to the N members of an aggregate.
template <std::size_t N, class X> auto members(X const& x) {
  static_assert(3 <= N && N <= 7, "aviary: a reference has 3 to 7 fields");
  if constexpr (N == 3) {
    auto const& [a, b, c] = x;
    return std::tie(a, b, c);
  } else if constexpr (N == 4) {
    auto const& [a, b, c, d] = x;
    return std::tie(a, b, c, d);
  } else if constexpr (N == 5) {
    auto const& [a, b, c, d, e] = x;
    return std::tie(a, b, c, d, e);
  } else if constexpr (N == 6) {
    auto const& [a, b, c, d, e, f] = x;
    return std::tie(a, b, c, d, e, f);
  } else {
    auto const& [a, b, c, d, e, f, g] = x;
    return std::tie(a, b, c, d, e, f, g);
  }
}

/// f(axis, name, field). An optional field that is left out stays so: f is not called.
template <Axis A, class X, class F> auto visit(AxisTag<A> axis, char const* name, X const& field, F const& f) {
  return f(axis, name, field);
}
template <Axis A, class X, class F>
auto visit(std::optional<AxisTag<A>>, char const* name, std::optional<X> const& field, F const& f) {
  return field ? std::optional(f(AxisTag<A>(), name, *field)) : std::nullopt;
}

/// The fields of a model in another form, To{f(axis, name, field)...}.
template <class Model, class To, class X, class F> To transform_fields(X const& x, F const& f) {
  constexpr std::size_t n = Model::names.size();
  typename Model::template Fields<AxisTag> const axes{};
  return [&]<std::size_t... i>(std::index_sequence<i...>) {
    return To{visit(std::get<i>(members<n>(axes)), Model::names[i], std::get<i>(members<n>(x)), f)...};
  }
  (std::make_index_sequence<n>());
}

/// f(axis, name, field) for each field that is given.
template <class Model, class X, class F> void for_each_field(X const& x, F const& f) {
  transform_fields<Model, X>(x, [&](auto axis, char const* name, auto const& field) {
    f(axis, name, field);
    return field;
  });
}

/// The inputs of a model in number type T.
template <class Model, class T> struct InputsOf {
  using Token = typename Model::template Fields<TokenFields<T>::template Per>;
  using Sequence = typename Model::template Fields<SequenceFields<T>::template Per>;

  /// Throws std::invalid_argument unless the fields of a token have as many numbers as there are keys and values.
  static void check(Token const& x, Index keys, Index values) {
    for_each_field<Model>(x, [&]<Axis A>(AxisTag<A>, char const* name, auto const& field) {
      if constexpr (!one_number(A)) expect_size(Model::model, name, field.size(), A == Axis::value ? values : keys);
    });
  }
  /// Throws std::invalid_argument unless every field that changes with time has as many tokens.
  static void check(Sequence const& x, Index tokens) {
    for_each_field<Model>(x, [&]<Axis A>(AxisTag<A>, std::string const& name, auto const& field) {
      if constexpr (A == Axis::one)
        expect_size(Model::model, name + " (tokens)", field.size(), tokens);
      else if constexpr (per_token(A))
        expect_size(Model::model, name + " (tokens)", field.rows(), tokens);
    });
  }
  /// Token t of a sequence.
  static Token token(Sequence const& x, Index t) {
    return transform_fields<Model, Token>(x, [t]<Axis A>(AxisTag<A>, char const*, auto const& field) {
      if constexpr (per_token(A))
        return field[t];
      else
        return field;
    });
  }
};

}  // namespace AVIARY_NAMESPACE::reference::detail
