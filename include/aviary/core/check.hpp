#pragma once
/// The shapes of a call, checked by one ordinary function over a table of what was given.
#include <cstdarg>
#include <cstdio>
#include <span>
#include <string>
#include <utility>

#include "aviary/core/packing.hpp"
#include "aviary/core/states.hpp"

namespace AVIARY_NAMESPACE::detail {

/// What a call does with rows of numbers.
enum class Use {
  read,              ///< of every token, for each head or for a divisor of their number
  read_for_heads,    ///< the same for all tokens
  read_all_heads,    ///< of every token and head
  read_and_replace,  ///< of every token and head; the outputs may lie there
  write,             ///< of every token and head
  write_if_wanted,   ///< the same, or not given
  write_for_heads,   ///< the same for all tokens, or not given
  read_if_given,     ///< of every token and head, or not given
};

/// Rows of numbers of a call: their name, what was found, and the size that goes with it.
struct GivenRows {
  char const* name;
  Use use;
  void const* data;
  Index tokens, heads, size, expected_size;
  char const* unit;                 ///< what `size` counts: "keys", "values" ...
  GivenRows const* like = nullptr;  ///< the input whose gradient this is: it has as many heads

  bool may_be_left_out() const noexcept {
    return use == Use::write_if_wanted || use == Use::write_for_heads || use == Use::read_if_given;
  }
  bool written() const noexcept {
    return use == Use::write || use == Use::write_if_wanted || use == Use::write_for_heads;
  }
  bool wanted() const noexcept { return data != nullptr || !may_be_left_out(); }
  bool per_token() const noexcept { return use != Use::read_for_heads && use != Use::write_for_heads; }
  bool for_divisors() const noexcept { return use == Use::read || use == Use::read_for_heads; }
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
  Index tokens, heads;
  char const *tokens_from, *heads_from;  ///< which rows or states have that many
  char const* size_format;               ///< prints a GivenSize, both numbers
  std::span<GivenRows const> rows = {};
  std::span<GivenStates const> states = {};
  std::span<Index const> offsets = {};

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

/// The first thing that is wrong with some rows of a call, in words; empty when nothing is.
inline std::string wrong_rows(GivenCall const& call, GivenRows const& x) {
  if (x.per_token() && x.tokens != call.tokens)
    return call.sentence("%s has %td tokens, %s has %td", x.name, x.tokens, call.tokens_from, call.tokens);
  if (x.like != nullptr && x.heads != x.like->heads)
    return call.sentence("%s has %td heads, expected %td, the heads of %s", x.name, x.heads, x.like->heads,
                         x.like->name);
  bool const divides = x.heads > 0 && call.heads % x.heads == 0;
  if (x.like == nullptr && x.heads != call.heads && !(x.for_divisors() && divides))
    return call.sentence("%s has %td heads, expected %s%td, the heads of %s", x.name, x.heads,
                         x.for_divisors() ? "a divisor of " : "", call.heads, call.heads_from);
  if (x.size != x.expected_size)
    return call.sentence("%s has %td %s, expected %td", x.name, x.size, x.unit, x.expected_size);
  if (x.written() && x.data == nullptr && x.tokens * x.heads * x.size > 0)
    return call.sentence("%s is a null pointer", x.name);
  if (x.written() && x.data != nullptr)
    for (GivenRows const& other : call.rows)
      if (x.data == other.data && &x != &other && other.use != Use::read_and_replace)
        return call.sentence("%s lies where %s does", x.name, other.name);
  return {};
}

/// The same of states, or of what else a call has one of for each sequence and head.
inline std::string wrong_states(GivenCall const& call, GivenStates const& states) {
  if (states.count != states.expected_count)
    return call.sentence("%s has %td elements, expected %td", states.name, states.count, states.expected_count);
  if (states.found == states.expected) return {};
  char found[64], expected[64];
  for (auto const& [text, size] : {std::pair{found, states.found}, {expected, states.expected}})
    std::snprintf(text, sizeof(found), call.size_format, size.first, size.second);
  return call.sentence("%s has a size of %s, expected %s", states.name, found, expected);
}

/// The first thing that is wrong with a call: its rows, the ranges of its sequences, its states.
inline std::string wrong_call(GivenCall const& call) {
  for (GivenRows const& x : call.rows)
    if (x.wanted())
      if (std::string words = wrong_rows(call, x); !words.empty()) return words;
  Packing const packing{call.offsets, call.tokens};
  for (Index s = 0; s < packing.sequences(); ++s)
    if (packing.begin(s) < 0 || packing.begin(s) > packing.end(s) || packing.end(s) > packing.tokens)
      return call.sentence("sequence %td is [%td, %td), not a range of the %td tokens", s, packing.begin(s),
                           packing.end(s), packing.tokens);
  for (GivenStates const& states : call.states)
    if (std::string words = wrong_states(call, states); !words.empty()) return words;
  return {};
}

/// The same of a call with a tape, the last of its states; without any the tape keeps nothing.
inline std::string wrong_call_with_tape(GivenCall call, Index every) {
  if (every <= 0) return call.sentence("tape.every is %td, expected at least 1", every);
  if (call.states.back().count == 0) call.states = call.states.first(call.states.size() - 1);
  return wrong_call(call);
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
/// The same of the states of packed sequences, where the number of all is as expected.
template <class State, class Size>
GivenStates given_states(char const* name, States<State> const& states, Index sequences, Index each, GivenSize expected,
                         Size&& size) {
  GivenStates given{name, static_cast<Index>(states.size()), sequences * each, expected, expected};
  if (given.count == given.expected_count)
    for (Index s = 0; s < sequences && given.found == expected; ++s)
      given.found = given_states(name, std::span(states.of(s, each), to_size(each)), each, expected, size).found;
  return given;
}

/// A sequence as rows of a call.
template <class Sequence>
GivenRows given_rows(char const* name, Use use, Sequence const& x, Index expected_size, char const* unit) {
  return {name, use, x.data(), x.tokens(), x.heads(), x.size(), expected_size, unit};
}

/// Prints what is wrong with a call, so that the words stand above the assertion that fails. True if there are none.
inline bool nothing_wrong(std::string const& words) {
  if (!words.empty()) std::fprintf(stderr, "%s\n", words.c_str());
  return words.empty();
}

}  // namespace AVIARY_NAMESPACE::detail
