#pragma once
/// The shapes of calls whose pointers are a device's. Nothing that lies there is read, and so neither are the positions of packed
/// sequences: whether these are in order, and how many states a tape of several sequences has, is the caller's business.
#include <array>
#include <initializer_list>

#include "aviary/cuda/channel_backward.hpp"

namespace AVIARY_NAMESPACE::cuda {

/// Checks the calls of channel memory M: each says what is wrong with their shapes, in words, or nothing.
template <class M> class ChannelDeviceCheck {
  using T = typename M::T;
  using State = typename M::State;
  static_assert(M::channels != dynamic, "aviary: states on a device have sizes known at compile time");

 public:
  static std::string forward(typename M::ForwardCall call) {
    Index const sequences = sequences_of(call), kept = kept_of(call);
    std::string words = states("forward", "states", call.states, sequences);
    if (words.empty() && kept >= 0 && !call.tape.states.empty())
      words = count("forward", "tape", static_cast<Index>(call.tape.states.size()), kept);
    if (words.empty()) words = spacing("forward", {{"k", call.x.k}, {"v", call.x.v}, {"y", call.y}});
    if (!words.empty()) return words;
    call.states = std::span<State>();
    return M::check(without_sequences(call));
  }

  static std::string backward(typename M::BackwardCall call) {
    Index const sequences = sequences_of(call), every = call.tape.every, kept = kept_of(call);
    std::string words;
    if (!call.dstates.empty()) words = states("backward", "dstates", call.dstates, sequences);
    Index const found = static_cast<Index>(call.tape.states.size());
    if (words.empty() && kept >= 0 && every > 0) words = count("backward", "tape", found, kept);
    if (words.empty() && found == 0 && sequences * call.tokens() > 0)
      words = given("backward").sentence("tape has 0 elements, expected what forward kept");
    Index const needed = ChannelBackwardPlan<T>(call.x.k.size(), call.tokens(), every).size(sequences);
    if (words.empty() && static_cast<Index>(call.workspace.size()) < needed)
      words = given("backward")
                  .sentence("workspace has %td numbers, expected at least %td",
                            static_cast<Index>(call.workspace.size()), needed);
    if (!words.empty()) return words;
    call.dstates = std::span<State>();
    call = without_sequences(call);
    call.workspace = {call.workspace.data(), M::backward_workspace(call.x, call.offsets, every)};
    return M::check(call);
  }

 private:
  struct Spaced {
    char const* name;
    bool evenly;
    template <class Sequence>
    Spaced(char const* name_, Sequence const& x) noexcept
        : name(name_),
          evenly(x.tokens() == 0 || ChannelRows(x).at(x.tokens() - 1, 0) == x.rows(x.tokens() - 1, 0).at()) {}
  };
  static std::string spacing(char const* verb, std::initializer_list<Spaced> all) {
    for (Spaced const& x : all)
      if (!x.evenly) return given(verb).sentence("%s has rows that several tokens share, but not all", x.name);
    return {};
  }
  template <class Call> static Index sequences_of(Call const& call) noexcept {
    return detail::Packing{call.offsets, call.tokens()}.sequences();
  }
  /// The states of a tape, or -1 where that depends on the positions of sequences.
  template <class Call> static Index kept_of(Call const& call) noexcept {
    return call.offsets.empty() ? detail::Packing{{}, call.tokens()}.kept_before(1, call.tape.every) : Index{-1};
  }
  /// What the check of a call on the host can look at: its rows.
  template <class Call> static Call without_sequences(Call call) noexcept {
    static constexpr std::array<Index, 1> none{0};
    call.offsets = none;
    call.tape.states = {};
    return call;
  }
  static detail::GivenCall given(char const* verb) { return {M::name, verb, 0, 1, "", "", "%td channels"}; }
  static std::string count(char const* verb, char const* name, Index found, Index expected) {
    return detail::wrong_states(given(verb), {name, found, expected, {}, {}});
  }
  static std::string states(char const* verb, char const* name, States<State> const& all, Index sequences) {
    std::string words = count(verb, name, static_cast<Index>(all.size()), sequences);
    for (Index s = 1; s < sequences && words.empty(); ++s)
      if (all.of(s, 1) != all.of(0, 1) + s)
        words =
            given(verb).sentence("%s are not in one place, those of sequence %td after those of %td", name, s, s - 1);
    return words;
  }
};

}  // namespace AVIARY_NAMESPACE::cuda
