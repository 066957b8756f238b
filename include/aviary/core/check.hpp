#pragma once
/// The first thing that is wrong with a call, in words: what the checks of all memories have in common.
#include <span>
#include <string>

#include "aviary/core/packing.hpp"

namespace aviary::detail {

/// Collects expectations; error() tells the first that was not met.
class CallCheck {
 public:
  /// `verb` begins the message.
  explicit CallCheck(char const* verb) : verb_(verb) {}

  /// say() is the message, made only if it is needed.
  template <class Say> void expect(bool right, Say&& say) {
    if (!right && error_.empty()) error_ = std::string("aviary: ") + verb_ + ": " + say();
  }
  void expect_sequences(Packing const& packing) {
    for (Index s = 0; s < packing.sequences(); ++s)
      expect(0 <= packing.begin(s) && packing.begin(s) <= packing.end(s) && packing.end(s) <= packing.tokens, [&] {
        return "sequence " + text(s) + " is [" + text(packing.begin(s)) + ", " + text(packing.end(s)) +
               "), not a range of the " + text(packing.tokens) + " tokens";
      });
  }
  /// `wanted` states, called `what`, of which each fits(state); describe(state) says its size and the right one.
  template <class State, class Fits, class Describe>
  void expect_states(char const* what, std::span<State> states, Index wanted, Fits&& fits, Describe&& describe) {
    expect(static_cast<Index>(states.size()) == wanted, [&] {
      return std::string(what) + " has " + text(static_cast<Index>(states.size())) + " states, expected " +
             text(wanted);
    });
    for (State const& state : states)
      expect(fits(state), [&] { return std::string("a state of ") + what + " is " + describe(state); });
  }
  bool fine() const noexcept { return error_.empty(); }
  std::string error() const { return error_; }

  static std::string text(Index n) { return std::to_string(n); }

 private:
  char const* verb_;
  std::string error_;
};

}  // namespace aviary::detail
