#pragma once
/// What a program writes besides its text: one-line messages.
#include <algorithm>
#include <iostream>
#include <ostream>
#include <stdexcept>
#include <string>
#include <string_view>

namespace generate {

/// Prints one line on standard error, whatever the text.
inline void complain(std::string text) {
  std::ranges::replace(text, '\n', ' ');
  std::cerr << "generate: " << text << '\n';
}

/// Writes to standard output at once. Throws std::runtime_error if that cannot be done.
inline void print(std::string_view text) {
  if (!std::cout.write(text.data(), static_cast<std::streamsize>(text.size())).flush())
    throw std::runtime_error("cannot write to standard output");
}

}  // namespace generate
