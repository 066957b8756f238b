#pragma once
/// The shapes of a call, checked by one ordinary function over a table of what was given.
#include <cstdarg>
#include <cstdio>
#include <span>
#include <string>
#include <utility>

#include "aviary/core/packing.hpp"

namespace AVIARY_NAMESPACE::detail {

/// An input of a call: its name, what was found, and the size that goes with it.
struct GivenInput {
  char const* name;
  char const* unit;  ///< what `size` counts: "keys", "values" ...
  bool per_token;    ///< whether it has a row for every token
  Index tokens, heads, size, expected_size;
};

/// A size of a state, as K x V keys and values or as a number of channels.
struct GivenSize {
  Index first, second;
  friend bool operator==(GivenSize, GivenSize) = default;
};

/// The states of a call: how many there are and should be, and the first size that is not the expected one, if any.
struct GivenStates {
  char const* name;
  Index count, expected_count;
  GivenSize found, expected;
};

/// What a check knows of a call.
struct GivenCall {
  char const* model;
  char const* verb;
  Index tokens, heads;  ///< those of y
  std::span<GivenInput const> inputs;
  std::span<Index const> offsets;
  char const* size_format;  ///< prints a GivenSize, both numbers

  /// "aviary: MODEL: VERB: " and the words, made as printf makes them.
#if defined(__GNUC__)
  __attribute__((format(printf, 2, 3)))
#endif
  std::string
  sentence(char const* format, ...) const {
    char text[320];
    int const begun = std::snprintf(text, 64, "aviary: %.30s: %s: ", model, verb);
    std::va_list arguments;
    va_start(arguments, format);
    std::vsnprintf(text + begun, sizeof(text) - 64, format, arguments);
    va_end(arguments);
    return text;
  }
};

/// The first thing that is wrong with the inputs and offsets of a call, in words; empty when nothing is.
inline std::string wrong_inputs(GivenCall const& call) {
  for (GivenInput const& x : call.inputs) {
    if (x.per_token && x.tokens != call.tokens)
      return call.sentence("%s has %td tokens, y has %td", x.name, x.tokens, call.tokens);
    if (x.heads <= 0 || call.heads % x.heads != 0)
      return call.sentence("%s has %td heads, not a divisor of y's %td", x.name, x.heads, call.heads);
    if (x.size != x.expected_size)
      return call.sentence("%s has %td %s, expected %td", x.name, x.size, x.unit, x.expected_size);
  }
  Packing const packing{call.offsets, call.tokens};
  for (Index s = 0; s < packing.sequences(); ++s)
    if (packing.begin(s) < 0 || packing.begin(s) > packing.end(s) || packing.end(s) > packing.tokens)
      return call.sentence("sequence %td is [%td, %td), not a range of the %td tokens", s, packing.begin(s),
                           packing.end(s), packing.tokens);
  return {};
}

/// The same of its states.
inline std::string wrong_states(GivenCall const& call, GivenStates const& states) {
  if (states.count != states.expected_count)
    return call.sentence("%s has %td states, expected %td", states.name, states.count, states.expected_count);
  if (states.found == states.expected) return {};
  char found[64], expected[64];
  for (auto const& [text, size] : {std::pair{found, states.found}, {expected, states.expected}})
    std::snprintf(text, sizeof(found), call.size_format, size.first, size.second);
  return call.sentence("a state of %s is %s, expected %s", states.name, found, expected);
}

/// The first thing that is wrong with a call of `forward`. `tape` counts the states that are given to keep others in: none,
/// and nothing is kept.
inline std::string wrong_forward(GivenCall const& call, GivenStates const& states, Index every,
                                 GivenStates const& tape) {
  if (std::string words = wrong_inputs(call); !words.empty()) return words;
  if (std::string words = wrong_states(call, states); !words.empty()) return words;
  if (every <= 0) return call.sentence("tape.every is %td, expected at least 1", every);
  return tape.count == 0 ? std::string() : wrong_states(call, tape);
}

/// Counts the states of a call, and finds the first whose size is not the expected one; size(state) tells it.
template <class State, class Size>
GivenStates given_states(char const* name, std::span<State> states, Index expected_count, GivenSize expected,
                         Size&& size) {
  GivenStates given{name, static_cast<Index>(states.size()), expected_count, expected, expected};
  for (State const& state : states)
    if (given.found == expected) given.found = size(state);
  return given;
}

/// Prints what is wrong with a call, so that the words stand above the assertion that fails. True if there are none.
inline bool nothing_wrong(std::string const& words) {
  if (!words.empty()) std::fprintf(stderr, "%s\n", words.c_str());
  return words.empty();
}

}  // namespace AVIARY_NAMESPACE::detail
