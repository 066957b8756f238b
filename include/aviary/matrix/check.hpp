#pragma once
/// The shapes of a call, checked in words.
#include <utility>

#include "aviary/core/check.hpp"
#include "aviary/matrix/access.hpp"

namespace AVIARY_NAMESPACE::detail {

/// The name of field I of rule R.
template <class R, int I> inline constexpr char const* field_name = member_name<Axes<R>, I>.text;

/// What is wrong with the shapes of a call of M::forward; empty when nothing is.
template <class M> std::string check_forward(typename M::ForwardCall const& call) {
  using R = typename M::Rule;
  using State = typename M::State;
  Index const tokens = call.y.tokens(), heads = call.y.heads(), values = call.y.size();
  Index keys = M::keys;
  GivenInput inputs[field_count<R>];
  [&]<int... I>(std::integer_sequence<int, I...>) { ((inputs[I].name = field_name<R, I>), ...); }
  (std::make_integer_sequence<int, field_count<R>>{});
  GivenInput* next = inputs;
  for_each_field<R>(call.x, [&]<Axis A>(AxisTag<A>, auto const& field) {
    if (along_key(A) && keys == dynamic) keys = field.size();
    *next = {next->name,
             A == Axis::value ? "values" : "keys",
             per_token(A),
             field.tokens(),
             field.heads(),
             field.size(),
             A == Axis::value ? values
             : along_key(A)   ? keys
                              : Index{1}};
    ++next;
  });
  GivenCall const given{M::name, "forward", tokens, heads, inputs, call.offsets, "%td x %td (keys x values)"};
  if (keys <= 0 || keys > largest_head || values <= 0 || values > largest_head)
    return given.sentence("a head has 1 to %td keys and values, found %td and %td", largest_head, keys, values);
  Packing const packing{call.offsets, tokens};
  auto const states = [&](char const* name, std::span<State> from, Index count) {
    return given_states(name, from, count, {keys, values}, [](State const& state) {
      return GivenSize{state.keys(), state.values()};
    });
  };
  return wrong_forward(
      given, states("states", call.states, packing.sequences() * heads), call.tape.every,
      states("tape", call.tape.states, packing.kept_before(packing.sequences(), call.tape.every) * heads));
}

}  // namespace AVIARY_NAMESPACE::detail
