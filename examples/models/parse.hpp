#pragma once
/// Command lines of programs that want to know which options were there.
#include <CLI/CLI.hpp>
#include <string>
#include <vector>

namespace models {

/// Parses the arguments; `given` gets the names of the options that were there. Prints the help and returns false, if that is
/// asked for. Throws CLI::ParseError.
inline bool parse(CLI::App& app, int argc, char const* const* argv, std::vector<std::string>& given) {
  try {
    app.parse(argc, argv);
  } catch (CLI::Success const& help) {
    app.exit(help);
    return false;
  }
  for (CLI::Option const* option : app.get_options())
    if (option->count() > 0) given.push_back(option->get_name());
  return true;
}

}  // namespace models
