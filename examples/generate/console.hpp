#pragma once
/// What a program writes besides its text: one-line messages.
#include <cerrno>
#include <iostream>
#include <istream>
#include <ostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

#include "models/command_line.hpp"
#include "models/interruption.hpp"

namespace generate {
inline namespace AVIARY_ISA {

/// The most that a prompt may have, in bytes: whoever gives more has named an endless file.
inline constexpr std::size_t prompt_limit = std::size_t{1} << 26;

/// Prints one line on standard error, whatever the text.
inline void complain(std::string text) { models::complain("generate", std::move(text)); }

/// Standard output takes no more: a full disk, say.
struct OutputFailed : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Throws OutputFailed with the reason that errno tells, or Interrupted where nobody reads any more.
[[noreturn]] inline void throw_output_failed() {
  int const error = errno;
  models::Interruption::check();  // a signal ends what is being written, too
  if (error == EPIPE && models::Interruption::no_reader != 0)
    throw models::Interrupted{models::Interruption::no_reader};
  throw OutputFailed("cannot write to standard output" +
                     (error != 0 ? ": " + std::generic_category().message(error) : std::string()));
}

/// Writes to standard output at once. Throws OutputFailed or Interrupted if that cannot be done.
inline void print(std::string_view text) {
  errno = 0;
  if (!std::cout.write(text.data(), static_cast<std::streamsize>(text.size())).flush()) throw_output_failed();
}

enum class Line { none, whole, too_long };

/// Reads a line without its end, as std::getline does. Of one of more than `most` bytes it reads no more than tells that.
inline Line read_at_most(std::istream& from, std::string& line, std::size_t most = prompt_limit) {
  line.clear();
  for (std::istream::int_type c; (c = from.get()) != std::istream::traits_type::eof();) {
    if (c == '\n') return Line::whole;
    if (line.size() == most) return Line::too_long;
    line += std::istream::traits_type::to_char_type(c);
  }
  return line.empty() ? Line::none : Line::whole;
}
/// The same; false where there is none. Throws std::runtime_error for one that is too long.
inline bool read_line(std::istream& from, std::string& line, std::size_t most = prompt_limit) {
  Line const read = read_at_most(from, line, most);
  if (read == Line::too_long)
    throw std::runtime_error("standard input: expected lines of at most " + std::to_string(most) +
                             " bytes, found more");
  return read == Line::whole;
}

}  // namespace AVIARY_ISA
}  // namespace generate
