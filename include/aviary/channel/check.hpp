#pragma once
/// The shapes of a call, checked in words.
#include "aviary/channel/forward.hpp"
#include "aviary/core/check.hpp"

namespace aviary::detail {

/// What is wrong with the shapes of a call of M::forward; empty when nothing is.
template <class M> std::string check_channels(typename M::ForwardCall const& call) {
  auto const text = CallCheck::text;
  Index const tokens = call.y.tokens(), channels = call.y.size();
  CallCheck check("forward");
  auto const expect = [&](char const* name, auto const& input, bool per_token) {
    check.expect(!per_token || input.tokens() == tokens,
                 [&] { return std::string(name) + " has " + text(input.tokens()) + " tokens, y has " + text(tokens); });
    check.expect(input.heads() == 1,
                 [&] { return std::string(name) + " has " + text(input.heads()) + " heads, expected 1"; });
    check.expect(input.size() == channels, [&] {
      return std::string(name) + " has " + text(input.size()) + " channels, y has " + text(channels);
    });
  };
  check.expect(call.y.heads() == 1, [&] { return "y has " + text(call.y.heads()) + " heads, expected 1"; });
  expect("log_w", call.x.log_w, false);
  expect("k", call.x.k, true);
  expect("v", call.x.v, true);
  expect("u", call.x.u, false);
  Packing const packing{call.offsets, tokens};
  check.expect_sequences(packing);
  auto const expect_states = [&](char const* what, std::span<typename M::State> states, Index wanted) {
    check.expect_states(
        what, states, wanted, [&](auto const& state) { return state.channels() == channels; },
        [&](auto const& state) { return "of " + text(state.channels()) + " channels, expected " + text(channels); });
  };
  expect_states("states", call.states, packing.sequences());
  check.expect(call.tape.every > 0, [&] { return "tape.every is " + text(call.tape.every) + ", expected at least 1"; });
  if (!call.tape.states.empty() && check.fine())
    expect_states("tape", call.tape.states, packing.kept_before(packing.sequences(), call.tape.every));
  return check.error();
}

}  // namespace aviary::detail
