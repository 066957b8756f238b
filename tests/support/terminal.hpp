#pragma once
/// A terminal without a person, to see what a program writes to one.
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <string>

namespace aviary::test {

/// A pseudo-terminal. What is written to it must fit the system's buffer of some kilobytes until it is read.
class Terminal {
 public:
  Terminal() : master_(::posix_openpt(O_RDWR | O_NOCTTY)) {
    if (master_ < 0 || ::grantpt(master_) != 0 || ::unlockpt(master_) != 0) return;
    if (char const* const name = ::ptsname(master_)) keep_open_ = ::open(name, O_RDWR | O_NOCTTY), path_ = name;
  }
  Terminal(Terminal const&) = delete;
  Terminal& operator=(Terminal const&) = delete;
  ~Terminal() {
    for (int const descriptor : {keep_open_, master_})
      if (descriptor >= 0) ::close(descriptor);
  }

  /// Whether the system has given one.
  bool is_open() const noexcept { return keep_open_ >= 0; }
  /// The file that programs write to.
  std::filesystem::path const& path() const noexcept { return path_; }

  /// What was written so far; line ends come as "\r\n". The system hands it over when it likes: a mark of our own says that all
  /// has come.
  std::string text() const {
    constexpr char mark = '\x1f';
    std::string text;
    if (::write(keep_open_, &mark, 1) != 1) return text;
    char part[4096];
    while (!text.ends_with(mark)) {
      auto const n = ::read(master_, part, sizeof(part));
      if (n <= 0) return text;
      text.append(part, static_cast<std::size_t>(n));
    }
    text.pop_back();
    return text;
  }

 private:
  int master_, keep_open_ = -1;  // without the second, what was written would be lost when the program ends
  std::filesystem::path path_;
};

}  // namespace aviary::test
