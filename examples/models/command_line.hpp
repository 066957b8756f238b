#pragma once
/// Command lines: options as text in, checked values out, and every mistake one line that says what was expected and found.
#include <algorithm>
#include <charconv>
#include <iostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>

#include "aviary/io/message.hpp"
#include "models/threads.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// What is wrong with a command line: exit status 2. Every other exception is status 1.
struct UsageError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Prints "PROGRAM: text" as one line on standard error, whatever the text.
inline void complain(char const* program, std::string text) {
  std::ranges::replace(text, '\n', ' ');
  std::cerr << program << ": " << aviary::printable(text, text.size()) << '\n';
}

/// Throws UsageError "--option: expected X, found 'Y'".
[[noreturn]] inline void refuse(std::string const& option, std::string const& expected, std::string_view found) {
  throw UsageError(option + ": expected " + expected + ", found " + aviary::in_quotes(found));
}

/// The number of an option. Throws UsageError if it is none, or not `good`.
template <class N, class Good>
N number(std::string const& option, std::string const& expected, std::string_view text, Good&& good) {
  N value{};
  auto const [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !good(value)) refuse(option, expected, text);
  return value;
}
template <class N> N natural(std::string const& option, std::string const& expected, std::string_view text) {
  return number<N>(option, expected, text, [](N n) { return n >= 0; });
}

/// One of several things with names.
template <class Named>
auto one_of(Named const& things, std::string const& option, std::string const& expected, std::string_view text) {
  auto const found = std::ranges::find_if(things, [&](auto thing) { return name_of(thing) == text; });
  if (found == things.end()) refuse(option, expected, text);
  return *found;
}

/// What --threads asks for.
inline Threads threads(std::string_view text) {
  aviary::Index const n = number<aviary::Index>("--threads", "a whole number from 1 to 1024", text,
                                                [](aviary::Index count) { return count >= 1 && count <= 1024; });
  if (n > 1 && !has_threads) refuse("--threads", "1, as this program was built without OpenMP", text);
  return Threads(n);
}

}  // namespace AVIARY_ISA
}  // namespace models
