#pragma once
/// The shapes of calls whose pointers are a device's. Nothing that lies there is read, and so neither are the positions of packed
/// sequences: whether these are in order, and how many states a tape of several sequences has, is the caller's business.
#include <array>
#include <string>

#include "aviary/matrix/memory.hpp"

namespace AVIARY_NAMESPACE::cuda {

/// Checks the calls of matrix memory M: each says what is wrong with their shapes, in words, or nothing.
template <class M> class MatrixDeviceCheck {
  using R = typename M::Rule;
  using T = typename M::T;
  static constexpr Index V = M::values;

 public:
  /// `heads` of each sequence.
  static std::string forward(typename M::ForwardCall call, Index heads) {
    Index const sequences = detail::Packing{call.offsets, call.tokens()}.sequences();
    std::string words = places("forward", call.states, sequences, heads);
    if (words.empty()) words = formats("forward", call.x);
    if (words.empty() && !call.tape.states.empty()) words = tape("forward", call, heads);
    if (!words.empty()) return words;
    static T number;
    if (!call.y) call.y = Sink<V>(&number, call.tokens(), heads);
    call.states = std::span<typename M::State>();
    return M::check(without_sequences(call));
  }

  /// `longest_interval` tokens between states of the tape at most; the least workspace has `workspace` numbers.
  static std::string backward(typename M::BackwardCall call, Index longest_interval, Index workspace) {
    Index const heads = call.dy.heads(), sequences = detail::Packing{call.offsets, call.dy.tokens()}.sequences();
    Index const found = static_cast<Index>(call.workspace.size());
    std::string words = formats("backward", call.x);
    if (words.empty() && !call.dstates.empty())
      words = count("backward", "dstates", static_cast<Index>(call.dstates.size()), sequences * heads);
    if (words.empty() && (call.tape.every < 1 || call.tape.every > longest_interval))
      words = given("backward")
                  .sentence("tape.every is %td, expected 1 to %td on a device", call.tape.every, longest_interval);
    if (words.empty()) words = tape("backward", call, heads);
    if (words.empty() && found < workspace)
      words = given("backward").sentence("workspace has %td numbers, expected at least %td", found, workspace);
    if (!words.empty()) return words;
    call.dstates = {};
    call = without_sequences(call);
    call.workspace = {call.workspace.data(), M::backward_workspace(call.x, heads, call.offsets, call.tape.every)};
    return M::check(call);
  }

 private:
  static detail::GivenCall given(char const* verb) { return {M::name, verb, 0, 1, "", "", "%td x %td"}; }
  static std::string count(char const* verb, char const* name, Index found, Index expected) {
    return detail::wrong_states(given(verb), {name, found, expected, {}, {}});
  }
  static std::string places(char const* verb, States<typename M::State> const& all, Index sequences, Index heads) {
    std::string words = count(verb, "states", static_cast<Index>(all.size()), sequences * heads);
    for (Index s = 1; s < sequences && words.empty(); ++s)
      if (all.of(s, heads) != all.of(0, heads) + s * heads)
        words = given(verb).sentence("states are not in one place, those of sequence %td after those of %td", s, s - 1);
    return words;
  }
  /// The states of a tape, where that depends on no position.
  template <class Call> static std::string tape(char const* verb, Call const& call, Index heads) {
    Index const tokens = detail::input_tokens<R>(call.x), every = call.tape.every;
    if (every < 1) return given(verb).sentence("tape.every is %td, expected at least 1", every);
    Index const found = static_cast<Index>(call.tape.states.size());
    if (call.offsets.empty()) return count(verb, "tape", found, (tokens + every - 1) / every * heads);
    if (found > 0 || tokens == 0) return {};
    return given(verb).sentence("tape has 0 elements, expected what forward kept");
  }
  /// Numbers on their way to a thread have the room of a T.
  static std::string formats(char const* verb, typename M::Inputs const& x) {
    std::string words;
    int f = 0;
    auto const rows = detail::given_fields<R, 0>(x, M::keys, V);
    detail::for_each_field<R>(x, [&](auto, auto const& field) {
      if (size_of(field.format()) > sizeof(T) && words.empty())
        words = given(verb).sentence("%s has numbers of %zu bytes, expected %zu at most: the arithmetic is float",
                                     rows[static_cast<std::size_t>(f)].name, size_of(field.format()), sizeof(T));
      ++f;
    });
    return words;
  }
  /// What the check of a call on the host can look at: its rows.
  template <class Call> static Call without_sequences(Call call) noexcept {
    static constexpr std::array<Index, 1> none{0};
    call.offsets = none;
    call.tape.states = {};
    return call;
  }
};

}  // namespace AVIARY_NAMESPACE::cuda
