#pragma once
/// How the library refuses arguments. Apart from io/ and reference/ it throws here alone, so that all other headers compile
/// without exceptions.
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

#include "aviary/core/namespace.hpp"

namespace AVIARY_NAMESPACE::detail {

/// Reports an argument that cannot be used. The sentence names the thing, what was expected and what was found; the
/// library's name goes in front of it.
/// @throws std::invalid_argument. Without exceptions it prints the sentence on standard error and aborts.
[[noreturn]] inline void refuse(std::string const& sentence) {
#if defined(__cpp_exceptions)
  throw std::invalid_argument("aviary: " + sentence);
#else
  std::fprintf(stderr, "aviary: %s\n", sentence.c_str());
  std::abort();
#endif
}

}  // namespace AVIARY_NAMESPACE::detail
