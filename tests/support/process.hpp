#pragma once
/// Runs a program and keeps what it says. The program's folder is AVIARY_PROGRAM_DIR.
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "support/temporary_folder.hpp"

namespace aviary::test {

/// The words of a command line after the program.
using Arguments = std::vector<std::string>;

inline Arguments operator+(Arguments a, Arguments const& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

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
inline Finished run_program(std::string const& name, Arguments const& arguments, Streams const& streams = {}) {
  TemporaryFolder const folder;
  auto const word = [](std::filesystem::path const& path) { return detail::shell_word(path.string()); };
  std::filesystem::path const err = streams.err.empty() ? folder / "err" : streams.err;
  std::string command = word(std::filesystem::path(AVIARY_PROGRAM_DIR) / name);
  for (std::string const& argument : arguments) command += " " + detail::shell_word(argument);
  command += " <" + word(folder.file("in", streams.in)) + " >" + word(folder / "out") + " 2>" + word(err);
  int const result = std::system(command.c_str());
  return {WIFEXITED(result) ? WEXITSTATUS(result) : -1, content_of(folder / "out"), content_of(folder / "err")};
}

/// Program NAME while it runs, with its standard input and output in the hands of the test.
class Running {
 public:
  /// Its standard output goes to a file, or to text(); its messages nowhere.
  Running(std::string const& name, Arguments arguments, std::string const& out = {}) {
    std::string const path = (std::filesystem::path(AVIARY_PROGRAM_DIR) / name).string();
    arguments.insert(arguments.begin(), path);
    std::vector<char*> words;
    for (std::string& word : arguments) words.push_back(word.data());
    words.push_back(nullptr);
    int in[2], from[2];
    if (::pipe(in) != 0 || ::pipe(from) != 0) throw std::runtime_error("no pipe");
    if (!out.empty()) from[1] = (::close(from[1]), ::open(out.c_str(), O_WRONLY));
    pid_ = ::fork();
    if (pid_ == 0) {
      ::dup2(in[0], 0), ::dup2(from[1], 1), ::dup2(::open("/dev/null", O_WRONLY), 2);
      for (int const file : {in[0], in[1], from[0], from[1]}) ::close(file);
      ::execv(path.c_str(), words.data());
      ::_exit(127);
    }
    ::close(in[0]), ::close(from[1]);
    in_ = in[1], out_ = from[0];
  }
  Running(Running const&) = delete;
  Running& operator=(Running const&) = delete;
  ~Running() {
    close_output();
    ::close(in_);
  }

  void write(std::string const& text) {
    if (::write(in_, text.data(), text.size()) != static_cast<ssize_t>(text.size()))
      throw std::runtime_error("no reader");
  }
  /// What it writes, at least so many bytes, or less if it ends.
  std::string text(std::size_t least) {
    std::string text;
    char block[4096];
    while (text.size() < least) {
      ssize_t const n = ::read(out_, block, sizeof(block));
      if (n <= 0) break;
      text.append(block, static_cast<std::size_t>(n));
    }
    return text;
  }
  /// Nobody reads it any more.
  void close_output() {
    if (out_ >= 0) ::close(out_);
    out_ = -1;
  }
  void signal(int kind) { ::kill(pid_, kind); }
  /// Waits for its end. The signal that ended it; 0: none.
  int ending_signal() {
    int const status = wait();
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  }
  /// Waits for its end. Its exit status; -1: a signal ended it.
  int ending_status() {
    int const status = wait();
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  int wait() {
    int status = 0;
    ::waitpid(pid_, &status, 0);
    return status;
  }

  pid_t pid_;
  int in_, out_;
};

}  // namespace aviary::test
