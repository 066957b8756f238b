#pragma once
/// The shapes of a call, checked in words.
#include "aviary/channel/forward.hpp"
#include "aviary/core/check.hpp"

namespace AVIARY_NAMESPACE::detail {

/// What is wrong with the shapes of a call of M::forward; empty when nothing is.
template <class M> std::string check_channels(typename M::ForwardCall const& call) {
  using State = typename M::State;
  Index const tokens = call.y.tokens(), channels = call.y.size();
  auto const row = [&](char const* name, bool per_token, auto const& x) {
    return GivenInput{name, "channels", per_token, x.tokens(), x.heads(), x.size(), channels};
  };
  GivenInput const inputs[]{row("log_w", false, call.x.log_w), row("k", true, call.x.k), row("v", true, call.x.v),
                            row("u", false, call.x.u)};
  GivenCall const given{M::name, "forward", tokens, call.y.heads(), inputs, call.offsets, "of %td channels"};
  if (call.y.heads() != 1) return given.sentence("y has %td heads, expected 1", call.y.heads());
  Packing const packing{call.offsets, tokens};
  auto const states = [&](char const* name, std::span<State> from, Index count) {
    return given_states(name, from, count, {channels, 0}, [](State const& s) { return GivenSize{s.channels(), 0}; });
  };
  return wrong_forward(given, states("states", call.states, packing.sequences()), call.tape.every,
                       states("tape", call.tape.states, packing.kept_before(packing.sequences(), call.tape.every)));
}

}  // namespace AVIARY_NAMESPACE::detail
