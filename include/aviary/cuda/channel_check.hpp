#pragma once
/// The shapes of calls of channel memories whose pointers are a device's.
#include <initializer_list>

#include "aviary/cuda/channel_backward.hpp"
#include "aviary/cuda/device_check.hpp"

namespace AVIARY_NAMESPACE::cuda {

/// Checks the calls of channel memory M: each says what is wrong with their shapes, in words, or nothing.
template <class M> class ChannelDeviceCheck : DeviceCheck<M> {
  using Base = DeviceCheck<M>;
  using Base::given, Base::places, Base::tape, Base::without_sequences;
  using T = typename M::T;
  static_assert(M::channels != dynamic, "aviary: states on a device have sizes known at compile time");

 public:
  static std::string forward(typename M::ForwardCall call) {
    std::string words = places("forward", "states", call.states, sequences_of(call), 1);
    if (words.empty() && !call.tape.states.empty()) words = tape("forward", call, call.tokens(), 1);
    if (words.empty()) words = spacing("forward", {{"k", call.x.k}, {"v", call.x.v}, {"y", call.y}});
    if (!words.empty()) return words;
    call.states = std::span<typename M::State>();
    return M::check(without_sequences(call));
  }

  static std::string backward(typename M::BackwardCall call) {
    Index const sequences = sequences_of(call), every = call.tape.every;
    Index const found = static_cast<Index>(call.workspace.size()),
                needed = ChannelBackwardPlan<T>(call.x.k.size(), call.tokens(), every).size(sequences);
    std::string words = tape("backward", call, call.tokens(), 1);
    if (words.empty() && !call.dstates.empty()) words = places("backward", "dstates", call.dstates, sequences, 1);
    if (words.empty() && found < needed)
      words = given("backward").sentence("workspace has %td numbers, expected at least %td", found, needed);
    if (words.empty())
      words = spacing("backward",
                      {{"k", call.x.k}, {"v", call.x.v}, {"dy", call.dy}, {"dx.k", call.dx.k}, {"dx.v", call.dx.v}});
    if (!words.empty()) return words;
    call.dstates = std::span<typename M::State>();
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
};

}  // namespace AVIARY_NAMESPACE::cuda
