#pragma once
/// The shapes of a call, checked in words.
#include <span>
#include <string>

#include "aviary/core/check.hpp"
#include "aviary/matrix/forward.hpp"

namespace aviary::detail {

/// What is wrong with the shapes of a call of M::forward; empty when nothing is.
template <class M> std::string check_forward(typename M::ForwardCall const& call) {
  using State = typename M::State;
  auto const text = CallCheck::text;
  Index const tokens = call.y.tokens(), heads = call.y.heads(), v = call.y.size();
  Index k = M::keys, number = 0;
  CallCheck check("forward");
  for_each_field<typename M::Rule>(call.x, [&]<Axis A>(AxisTag<A>, auto const& field) {
    ++number;
    auto const name = [&] { return "input " + text(number) + " (in the order of the rule's fields)"; };
    if constexpr (per_token(A))
      check.expect(field.tokens() == tokens,
                   [&] { return name() + " has " + text(field.tokens()) + " tokens, y has " + text(tokens); });
    check.expect(field.heads() > 0 && heads % field.heads() == 0, [&] {
      return name() + " has " + text(field.heads()) + " heads, not a divisor of y's " + text(heads);
    });
    if constexpr (A == Axis::value)
      check.expect(field.size() == v,
                   [&] { return name() + " has " + text(field.size()) + " values, y has " + text(v); });
    if constexpr (along_key(A)) {
      if (k == dynamic) k = field.size();
      check.expect(field.size() == k,
                   [&] { return name() + " has " + text(field.size()) + " keys, expected " + text(k); });
    }
  });
  check.expect(0 < k && k <= largest_head && 0 < v && v <= largest_head, [&] {
    return "a head has 1 to " + text(largest_head) + " keys and values, found " + text(k) + " and " + text(v);
  });
  Packing const packing{call.offsets, tokens};
  check.expect_sequences(packing);
  auto const expect_states = [&](char const* what, std::span<State> states, Index wanted) {
    check.expect_states(
        what, states, wanted, [&](State const& state) { return state.keys() == k && state.values() == v; },
        [&](State const& state) {
          return text(state.keys()) + " x " + text(state.values()) + " (keys x values), expected " + text(k) + " x " +
                 text(v);
        });
  };
  expect_states("states", call.states, packing.sequences() * heads);
  check.expect(call.tape.every > 0, [&] { return "tape.every is " + text(call.tape.every) + ", expected at least 1"; });
  if (!call.tape.states.empty() && check.fine())
    expect_states("tape", call.tape.states, packing.kept_before(packing.sequences(), call.tape.every) * heads);
  return check.error();
}

}  // namespace aviary::detail
