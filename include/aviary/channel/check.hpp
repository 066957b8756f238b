#pragma once
/// The shapes of a call, checked in words.
#include <array>

#include "aviary/channel/backward.hpp"
#include "aviary/channel/segment.hpp"
#include "aviary/core/check.hpp"

namespace AVIARY_NAMESPACE::detail {

/// Checks the calls of memory M: each says what is wrong with their shapes, in words, or nothing. There is one head.
template <class M> class ChannelCheck {
  using State = typename M::State;

 public:
  static std::string forward(typename M::ForwardCall const& call) {
    Shape const shape(call.x, call.y, call.offsets);
    auto const rows = given_inputs<1>(call.x, call.y, shape.channels);
    Index const sequences = shape.packing.sequences(), kept = shape.packing.kept_before(sequences, call.tape.every);
    GivenStates const states[]{owned("states", call.states, sequences, shape.channels),
                               owned("tape", call.tape.states, kept, shape.channels)};
    return wrong_call_with_tape(given("forward", shape.from, shape.packing, rows, states), call.tape.every);
  }

  static std::string backward(typename M::BackwardCall const& call) {
    Index const channels = call.dy.size(), every = call.tape.every;
    Packing const packing{call.offsets, call.dy.tokens()};
    auto const& x = call.x;
    auto const& dx = call.dx;
    GivenRows const rows[]{given_rows("dy", Use::read, call.dy, channels, unit),
                           given_rows("log_w", Use::read_for_heads, x.log_w, channels, unit),
                           given_rows("k", Use::read, x.k, channels, unit),
                           given_rows("v", Use::read, x.v, channels, unit),
                           given_rows("u", Use::read_for_heads, x.u, channels, unit),
                           given_rows("dx.log_w", Use::write_for_heads, dx.log_w, channels, unit),
                           given_rows("dx.k", Use::write_if_wanted, dx.k, channels, unit),
                           given_rows("dx.v", Use::write_if_wanted, dx.v, channels, unit),
                           given_rows("dx.u", Use::write_for_heads, dx.u, channels, unit)};
    Index const sequences = packing.sequences();
    GivenStates const states[]{owned("tape", call.tape.states, packing.kept_before(sequences, every), channels),
                               owned("dstates", call.dstates, call.dstates.empty() ? 0 : sequences, channels)};
    GivenCall const all = given("backward", "dy", packing, rows, states);
    if (every <= 0) return all.sentence("tape.every is %td, expected at least 1", every);
    if (std::string words = wrong_call(all); !words.empty()) return words;
    if (call.dy.data() == nullptr && packing.tokens * channels > 0) return all.sentence("dy is a null pointer");
    Index const found = static_cast<Index>(call.workspace.size()),
                needed = ChannelWorkspace<typename M::T>(packing, channels, every).size();
    if (found < needed) return all.sentence("workspace has %td numbers, expected at least %td", found, needed);
    return {};
  }

  static std::string summarize(typename M::SummarizeCall const& call) {
    Shape const shape(call.x, call.y, call.offsets);
    auto rows = given_inputs<2>(call.x, call.y, shape.channels);
    rows.back() = given_rows("state_weights", Use::write_if_wanted, call.state_weights, shape.channels, unit);
    GivenStates const segments[]{
        owned("segments", std::span<typename M::Segment>(call.segments), shape.packing.sequences(), shape.channels)};
    return wrong_call(given("summarize", shape.from, shape.packing, rows, segments));
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

  template <class Segment>
  static std::string compose(Segment const& earlier, Segment const& later, Segment const& out) {
    Index const channels = size_of_one(earlier);
    GivenStates const segments[]{owned("later", later, channels), owned("out", out, channels)};
    return wrong_call(given("compose", "", {{}, 0}, {}, segments));
  }

  template <class From, class Segment, class To>
  static std::string apply(From const& s, Segment const& segment, To const& out) {
    Index const channels = s.channels();
    GivenStates const states[]{owned("segment", segment, channels), owned("out", out, channels)};
    return wrong_call(given("apply", "", {{}, 0}, {}, states));
  }

 private:
  static constexpr char const* unit = "channels";

  /// How many tokens and channels there are, as y says or else k.
  struct Shape {
    Packing packing;
    Index channels;
    char const* from;
    Shape(typename M::Inputs const& x, Sink<M::channels> const& y, std::span<Index const> offsets) noexcept
        : packing{offsets, y ? y.tokens() : x.k.tokens()}, channels(y ? y.size() : x.k.size()), from(y ? "y" : "k") {}
  };

  static GivenCall given(char const* verb, char const* first, Packing const& packing, std::span<GivenRows const> rows,
                         std::span<GivenStates const> states) {
    return {M::name, verb,   packing.tokens,     1, first, "a channel memory", "%td channels",
            rows,    states, packing.positions()};
  }
  /// The inputs as rows of a call, then y, with room for more.
  template <std::size_t outputs>
  static std::array<GivenRows, 4 + outputs> given_inputs(typename M::Inputs const& x, Sink<M::channels> const& y,
                                                         Index channels) {
    return {given_rows("log_w", Use::read_for_heads, x.log_w, channels, unit),
            given_rows("k", Use::read, x.k, channels, unit), given_rows("v", Use::read, x.v, channels, unit),
            given_rows("u", Use::read_for_heads, x.u, channels, unit),
            given_rows("y", Use::write_if_wanted, y, channels, unit)};
  }
  template <class One> static GivenStates owned(char const* name, std::span<One> all, Index count, Index channels) {
    return given_states(name, all, count, {channels, 0}, [](auto const& one) {
      return GivenSize{size_of_one(one), 0};
    });
  }
  static GivenStates owned(char const* name, States<State> const& states, Index sequences, Index channels) {
    return given_states(name, states, sequences, 1, {channels, 0}, [](auto const& one) {
      return GivenSize{size_of_one(one), 0};
    });
  }
  template <class One> static GivenStates owned(char const* name, One const& one, Index channels) {
    return owned(name, std::span(&one, 1), 1, channels);
  }
  template <class One> static Index size_of_one(One const& one) noexcept {
    if constexpr (requires { one.sums; })
      return one.log_w.size() == one.sums.channels() ? one.log_w.size() : Index{-1};
    else
      return one.channels();
  }
};

}  // namespace AVIARY_NAMESPACE::detail
