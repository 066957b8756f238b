#pragma once
/// How far a long prompt is, for people who wait.
#include <ostream>

#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

#include "aviary/core/config.hpp"

namespace models {
inline namespace AVIARY_ISA {

using aviary::Index;

/// Whether a person is at standard input (0) or standard error (2). Not known on every system: then no.
inline bool is_terminal([[maybe_unused]] int descriptor) noexcept {
#if defined(__unix__) || defined(__APPLE__)
  return ::isatty(descriptor) != 0;
#else
  return false;
#endif
}

/// "prefill: 12%" on one line that is rewritten, and gone at the end. For people who wait: prompts of fewer than
/// `shortest` tokens have none.
class Progress {
 public:
  static constexpr Index shortest = 2048;

  Progress(std::ostream& to, bool shown) : to_(to), shown_(shown) {}
  Progress(Progress const&) = delete;
  Progress& operator=(Progress const&) = delete;
  ~Progress() { clear(); }

  /// `done` of `all` tokens are read.
  void operator()(Index done, Index all) {
    if (!shown_ || all < shortest) return;
    Index const percent = static_cast<Index>(100 * (static_cast<double>(done) / static_cast<double>(all)));
    if (done == all) return clear();
    if (percent == percent_) return;
    percent_ = percent;
    to_ << "\rprefill: " << percent << '%' << std::flush;
  }
  /// Takes the line away until more is read.
  void clear() {
    if (percent_ >= 0) to_ << "\r             \r" << std::flush;
    percent_ = -1;
  }

 private:
  std::ostream& to_;
  bool shown_;
  Index percent_ = -1;  // that the line shows
};

/// "12 prompts" on one line that is rewritten, and gone at the end.
class Count {
 public:
  Count(std::ostream& to, char const* what, bool shown) : to_(to), what_(what), shown_(shown) {}
  Count(Count const&) = delete;
  Count& operator=(Count const&) = delete;
  ~Count() { clear(); }

  void operator()(Index done) {
    if (!shown_ || done == 0) return;
    to_ << '\r' << done << ' ' << what_ << std::flush;
    is_there_ = true;
  }
  /// Takes the line away until there are more.
  void clear() {
    if (is_there_) to_ << "\r                              \r" << std::flush;
    is_there_ = false;
  }

 private:
  std::ostream& to_;
  char const* what_;
  bool shown_, is_there_ = false;
};

}  // namespace AVIARY_ISA
}  // namespace models
