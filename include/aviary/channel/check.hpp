#pragma once
/// The shapes of a call, checked in words.
#include <array>

#include "aviary/channel/segment.hpp"
#include "aviary/core/check.hpp"

namespace AVIARY_NAMESPACE::detail {

/// Checks the calls of memory M: each says what is wrong with their shapes, in words, or nothing. There is one head.
template <class M> class ChannelCheck {
  using State = typename M::State;

 public:
  static std::string forward(typename M::ForwardCall const& call) {
    auto const rows = given_inputs<1>(call.x, call.y);
    Packing const packing = packing_of(rows, call.offsets);
    Index const sequences = packing.sequences(), kept = packing.kept_before(sequences, call.tape.every);
    GivenStates const states[]{owned("states", std::span<State>(call.states), sequences, channels_of(rows)),
                               owned("tape", call.tape.states, kept, channels_of(rows))};
    return wrong_call_with_tape(given("forward", call.y ? "y" : "k", packing, rows, states), call.tape.every);
  }

  static std::string summarize(typename M::SummarizeCall const& call) {
    auto rows = given_inputs<2>(call.x, call.y);
    rows.back() = given_rows("state_weights", Use::write_if_wanted, call.state_weights, channels_of(rows), unit);
    Packing const packing = packing_of(rows, call.offsets);
    GivenStates const segments[]{
        owned("segments", std::span<typename M::Segment>(call.segments), packing.sequences(), channels_of(rows))};
    return wrong_call(given("summarize", call.y ? "y" : "k", packing, rows, segments));
  }

  static std::string add_initial_state(typename M::AddInitialStateCall const& call) {
    Index const channels = call.y0.size();
    GivenRows const rows[]{given_rows("state_weights", Use::read_and_replace, call.state_weights, channels, unit),
                           given_rows("y0", Use::read_and_replace, call.y0, channels, unit),
                           given_rows("y", Use::write, call.y, channels, unit)};
    Packing const packing{call.offsets, call.y0.tokens()};
    GivenStates const states[]{owned("states", std::span<State const>(call.states), packing.sequences(), channels)};
    return wrong_call(given("add_initial_state", "y0", packing, rows, states));
  }

  static std::string step(typename M::View s, typename M::Token const& x, VecView<typename M::T, M::channels> y) {
    auto const row = [&](char const* name, Use use, auto const& view) {
      return GivenRows{name, use, view.data(), 1, 1, view.size(), s.channels(), unit};
    };
    GivenRows const rows[]{row("log_w", Use::read_and_replace, x.log_w), row("k", Use::read_and_replace, x.k),
                           row("v", Use::read_and_replace, x.v), row("u", Use::read_and_replace, x.u),
                           row("y", Use::write, y)};
    return wrong_call(given("step", "y", {{}, 1}, rows, {}));
  }

  /// Of states, views and segments that go together.
  template <class First, class Second, class Third>
  static std::string sizes(char const* verb, First const& first, Second const& second, Third const& third) {
    Index const channels = size_of_one(first);
    GivenStates const states[]{owned("the second argument", std::span(&second, 1), 1, channels),
                               owned("out", std::span(&third, 1), 1, channels)};
    return wrong_call(given(verb, "", {{}, 0}, {}, states));
  }

 private:
  static constexpr char const* unit = "channels";

  static GivenCall given(char const* verb, char const* first, Packing const& packing, std::span<GivenRows const> rows,
                         std::span<GivenStates const> states) {
    return {M::name, verb, packing.tokens, 1, first, "a channel memory", "%td channels", rows, states, packing.offsets};
  }
  /// The inputs as rows of a call, then y, with room for more. y says how many tokens and channels there are, or else k.
  template <std::size_t outputs>
  static std::array<GivenRows, 4 + outputs> given_inputs(typename M::Inputs const& x, Sink<M::channels> const& y) {
    Index const channels = y ? y.size() : x.k.size();
    return {given_rows("log_w", Use::read_for_heads, x.log_w, channels, unit),
            given_rows("k", Use::read, x.k, channels, unit), given_rows("v", Use::read, x.v, channels, unit),
            given_rows("u", Use::read_for_heads, x.u, channels, unit),
            given_rows("y", Use::write_if_wanted, y, channels, unit)};
  }
  static Index channels_of(std::span<GivenRows const> rows) noexcept { return rows[4].expected_size; }
  static Packing packing_of(std::span<GivenRows const> rows, std::span<Index const> offsets) noexcept {
    return {offsets, rows[4].wanted() ? rows[4].tokens : rows[1].tokens};
  }
  template <class One> static GivenStates owned(char const* name, std::span<One> all, Index count, Index channels) {
    return given_states(name, all, count, {channels, 0}, [](auto const& one) {
      return GivenSize{size_of_one(one), 0};
    });
  }
  template <class One> static Index size_of_one(One const& one) noexcept {
    if constexpr (requires { one.sums; })
      return one.log_w.size() == one.sums.channels() ? one.log_w.size() : Index{-1};
    else
      return one.channels();
  }
};

}  // namespace AVIARY_NAMESPACE::detail
