#pragma once
/// The only reflection of the library: the members of an aggregate, counted and handed to a function.
#include <type_traits>

#include "aviary/core/config.hpp"

namespace aviary::detail {

struct AnyMember {
  template <class U> constexpr operator U() const;
};

/// How many members the aggregate S has.
template <class S, class... Members> consteval int count_members() {
  if constexpr (requires { S{Members{}..., AnyMember{}}; })
    return count_members<S, Members..., AnyMember>();
  else
    return sizeof...(Members);
}

/// f(members...) of an aggregate of N members. (A lambda inside f may not capture a structured binding in clang 14: hence
/// a call.)
template <int N, class S, class F> AVIARY_HOST_DEVICE constexpr decltype(auto) with_members(S&& s, F&& f) {
  static_assert(N >= 1 && N <= 10, "aviary: a rule has 1 to 10 fields");
  if constexpr (N == 1) {
    auto& [a] = s;
    return f(a);
  } else if constexpr (N == 2) {
    auto& [a, b] = s;
    return f(a, b);
  } else if constexpr (N == 3) {
    auto& [a, b, c] = s;
    return f(a, b, c);
  } else if constexpr (N == 4) {
    auto& [a, b, c, d] = s;
    return f(a, b, c, d);
  } else if constexpr (N == 5) {
    auto& [a, b, c, d, e] = s;
    return f(a, b, c, d, e);
  } else if constexpr (N == 6) {
    auto& [a, b, c, d, e, g] = s;
    return f(a, b, c, d, e, g);
  } else if constexpr (N == 7) {
    auto& [a, b, c, d, e, g, h] = s;
    return f(a, b, c, d, e, g, h);
  } else if constexpr (N == 8) {
    auto& [a, b, c, d, e, g, h, i] = s;
    return f(a, b, c, d, e, g, h, i);
  } else if constexpr (N == 9) {
    auto& [a, b, c, d, e, g, h, i, j] = s;
    return f(a, b, c, d, e, g, h, i, j);
  } else {
    auto& [a, b, c, d, e, g, h, i, j, k] = s;
    return f(a, b, c, d, e, g, h, i, j, k);
  }
}

}  // namespace aviary::detail
