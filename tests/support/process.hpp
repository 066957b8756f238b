#pragma once
/// Runs a program and keeps what it says. The program's folder is AVIARY_PROGRAM_DIR.
#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "support/temporary_folder.hpp"

namespace aviary::test {

/// What a program left behind: its exit status (-1 if a signal ended it), standard output and standard error.
struct Finished {
  int status;
  std::string out, err;
};

namespace detail {
/// As one word of a POSIX shell.
inline std::string shell_word(std::string const& text) {
  std::string word = "'";
  for (char const c : text) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return word + "'";
}
}  // namespace detail

/// Where the standard streams of a program lead: the text that it reads, and the file that its messages go to if they are
/// not to be kept (a terminal, say).
struct Streams {
  std::string in = {};
  std::filesystem::path err = {};
};

/// Runs program NAME with arguments of any bytes but 0, and waits for it.
inline Finished run_program(std::string const& name, std::vector<std::string> const& arguments,
                            Streams const& streams = {}) {
  TemporaryFolder const folder;
  auto const word = [](std::filesystem::path const& path) { return detail::shell_word(path.string()); };
  std::filesystem::path const err = streams.err.empty() ? folder / "err" : streams.err;
  std::string command = word(std::filesystem::path(AVIARY_PROGRAM_DIR) / name);
  for (std::string const& argument : arguments) command += " " + detail::shell_word(argument);
  command += " <" + word(folder.file("in", streams.in)) + " >" + word(folder / "out") + " 2>" + word(err);
  int const result = std::system(command.c_str());
  return {WIFEXITED(result) ? WEXITSTATUS(result) : -1, content_of(folder / "out"), content_of(folder / "err")};
}

}  // namespace aviary::test
