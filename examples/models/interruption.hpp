#pragma once
/// What ends a program from outside while it still owes somebody a file: Ctrl-C, SIGTERM, a terminal that goes away, a
/// reader of its text that has seen enough.
#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>

#if defined(__unix__) || defined(__APPLE__)
#include <fcntl.h>
#include <unistd.h>
#define MODELS_HAS_SIGNALS 1
#else
#define MODELS_HAS_SIGNALS 0
#endif

#include "aviary/core/namespace.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// Thrown where the program is to stop at once, keep what it promised, and end as the signal says.
struct Interrupted {
  int signal;
};

/// While one lives, the first signal of a kind waits until somebody asks for it; standard input ends then, too. The second
/// of a kind ends the program. A pipe without a reader is an error of writing. There is one at a time; where the system has
/// no such signals, it does nothing.
class Interruption {
 public:
  Interruption(Interruption const&) = delete;
  Interruption& operator=(Interruption const&) = delete;

  /// The last signal that there was, or 0.
  static int signal() noexcept { return received; }
  /// Throws Interrupted if there was a signal.
  static void check() {
    if (signal() != 0) throw Interrupted{signal()};
  }

#if MODELS_HAS_SIGNALS
  Interruption() {
    received = 0;
    nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    for (std::size_t i = 0; i < kinds.size(); ++i) {
      struct sigaction action = {};
      action.sa_handler = kinds[i] == SIGPIPE ? SIG_IGN : &receive;
      action.sa_flags = kinds[i] == SIGPIPE ? 0 : static_cast<int>(SA_RESETHAND);  // without SA_RESTART: reading ends
      ::sigaction(kinds[i], nullptr, &before_[i]);
      if (before_[i].sa_handler != SIG_IGN) ::sigaction(kinds[i], &action, nullptr);  // whoever ignores it means that
    }
  }
  ~Interruption() {
    for (std::size_t i = 0; i < kinds.size(); ++i) ::sigaction(kinds[i], &before_[i], nullptr);
    if (nothing >= 0) ::close(nothing);
    nothing = -1;
  }

  /// Of a reader that went away.
  static constexpr int no_reader = SIGPIPE;

 private:
  static constexpr std::array kinds{SIGINT, SIGTERM, SIGHUP, SIGPIPE};

  /// Does what a handler may do. Standard input is replaced for a read that is just about to begin.
  static void receive(int kind) {
    int const error = errno;
    received = kind;
    if (nothing >= 0) ::dup2(nothing, 0);
    errno = error;
  }

  std::array<struct sigaction, kinds.size()> before_{};
  inline static volatile std::sig_atomic_t nothing = -1;
#else
  Interruption() = default;
  static constexpr int no_reader = 0;

 private:
#endif
  inline static volatile std::sig_atomic_t received = 0;
};

}  // namespace AVIARY_ISA
}  // namespace models
