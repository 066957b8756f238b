#pragma once
/// The shapes of calls whose pointers are a device's. Nothing that lies there is read, and so neither are the positions of packed
/// sequences: whether these are in order, and how many states a tape of several sequences has, is the caller's business. All rows
/// are looked at by the host's check.
#include <array>
#include <string>

#include "aviary/core/check.hpp"

namespace AVIARY_NAMESPACE::cuda {

/// What the checks of memories have in common. Each says what is wrong, in words, or nothing.
template <class M> class DeviceCheck {
 protected:
  static detail::GivenCall given(char const* verb) { return {M::name, verb, 0, 1, "", "", "%td x %td"}; }
  static std::string count(char const* verb, char const* name, Index found, Index expected) {
    return detail::wrong_states(given(verb), {name, found, expected, {}, {}});
  }
  /// States of sequences, each of which has `each` of them: they lie in one array.
  static std::string places(char const* verb, char const* name, States<typename M::State> const& all, Index sequences,
                            Index each) {
    std::string words = count(verb, name, static_cast<Index>(all.size()), sequences * each);
    for (Index s = 1; s < sequences && words.empty(); ++s)
      if (all.of(s, each) != all.of(0, each) + s * each)
        words =
            given(verb).sentence("%s are not in one place, those of sequence %td after those of %td", name, s, s - 1);
    return words;
  }
  /// The states of a tape, as far as that depends on no position.
  template <class Call> static std::string tape(char const* verb, Call const& call, Index tokens, Index heads) {
    Index const every = call.tape.every, found = static_cast<Index>(call.tape.states.size());
    if (every < 1) return given(verb).sentence("tape.every is %td, expected at least 1", every);
    if (call.offsets.empty()) return count(verb, "tape", found, (tokens + every - 1) / every * heads);
    if (found > 0 || tokens == 0 || call.offsets.size() < 2) return {};
    return given(verb).sentence("tape has 0 elements, expected what forward kept");
  }
  /// The call without sequences, whose rows the host's check can look at.
  template <class Call> static Call without_sequences(Call call) noexcept {
    static constexpr std::array<Index, 1> none{0};
    call.offsets = none;
    call.tape.states = {};
    return call;
  }
};

}  // namespace AVIARY_NAMESPACE::cuda
