#pragma once
/// How the library refuses arguments: the one place that throws outside of io/ and reference/, so that all other headers
/// compile without exceptions.
#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

namespace aviary::detail {

/// Reports an argument that cannot be used, in one sentence that names the thing, what was expected and what was found.
/// The library's name is put in front of it.
/// @throws std::invalid_argument. Compiled without exceptions it prints the sentence on standard error and aborts.
[[noreturn]] inline void refuse(std::string const& sentence) {
#if defined(__cpp_exceptions)
  throw std::invalid_argument("aviary: " + sentence);
#else
  std::fprintf(stderr, "aviary: %s\n", sentence.c_str());
  std::abort();
#endif
}

}  // namespace aviary::detail
