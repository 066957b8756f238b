#pragma once
/// The only reflection of the library. It counts the members of an aggregate, hands them to a function, and reads their
/// names.
#include <type_traits>

#include "aviary/core/config.hpp"

namespace AVIARY_NAMESPACE::detail {

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

AVIARY_CALLS_ANYTHING_BEGIN
/// f(members...) of an aggregate of N members. (A lambda inside f may not capture a structured binding in clang 14: hence
/// a call.)
template <int N, class S, class F>
AVIARY_HOST_DEVICE AVIARY_INLINE constexpr decltype(auto) with_members(S&& s, F&& f) {
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

AVIARY_CALLS_ANYTHING_END

/// @name The name of a member
/// The compiler spells out the template argument that points to the member of a sample, "&sample.log_w", in the name of
/// the function below. Nothing else in C++20 tells a member's name. (Clang before 18 takes such a pointer only inside a
/// class.)
///@{
template <class S> inline constexpr S sample{};

template <class Member> struct AddressOf { Member const* member; };

template <AddressOf address> consteval char const* spelled_out() { return __PRETTY_FUNCTION__; }

template <int I, class Member, class... More>
constexpr auto address_of_member(Member const& member, More const&... more) {
  if constexpr (I == 0)
    return AddressOf<Member>{&member};
  else
    return address_of_member<I - 1>(more...);
}

/// A name of up to 31 letters; a longer one is cut off.
struct MemberName {
  char text[32] = {};

  /// The last identifier of a text, in front of closing brackets.
  consteval explicit MemberName(char const* spelled) {
    auto const is_letter = [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    };
    char const* end = spelled;
    for (char const* at = spelled; *at != 0; ++at)
      if (is_letter(*at)) end = at + 1;
    char const* begin = end;
    while (begin != spelled && is_letter(begin[-1])) --begin;
    for (int i = 0; i < 31 && begin != end; ++i) text[i] = *begin++;
  }
};

/// The name of member I of the aggregate S, whose members are constants without a value of their own.
template <class S, int I>
inline constexpr MemberName member_name{spelled_out<with_members<count_members<S>()>(
    sample<S>, [](auto const&... members) { return address_of_member<I>(members...); })>()};
///@}

}  // namespace AVIARY_NAMESPACE::detail
