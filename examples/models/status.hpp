#pragma once
/// What programs that take minutes say while they work.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <iostream>
#include <string>

#include "models/progress.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// Formatted as printf does, of up to 255 characters.
template <class... Values> std::string formatted(char const* format, Values... values) {
  char text[256];
  int const length = std::snprintf(text, sizeof(text), format, values...);
  return {text, static_cast<std::size_t>(std::clamp<int>(length, 0, sizeof(text) - 1))};
}

/// "1:02:03", "2:03"
inline std::string clock_text(double seconds) {
  auto const whole = static_cast<long long>(seconds + 0.5);
  return whole < 3600 ? formatted("%lld:%02lld", whole / 60, whole % 60)
                      : formatted("%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
}

/// Standard error: one line that is rewritten on a terminal, else one every ten seconds.
class Status {
 public:
  Status() = default;
  Status(Status const&) = delete;
  Status& operator=(Status const&) = delete;
  ~Status() { end_line(); }

  /// Shows the text that make() returns if that is wanted, or it is the first, or time allows.
  template <class Make> void show(bool wanted, Make const& make) {
    auto const now = Clock::now();
    std::chrono::milliseconds const pause(is_terminal_ ? 100 : 10000);
    if (wanted || is_first_ || now - shown_ >= pause) {
      is_first_ = false, shown_ = now;
      is_terminal_ ? rewrite(make()) : line(make());
    }
  }
  /// Prints a line of its own.
  void line(std::string const& text) {
    end_line();
    std::cerr << text << std::endl;
  }

 private:
  using Clock = std::chrono::steady_clock;

  void rewrite(std::string const& text) {
    std::string const blanks(width_ > text.size() ? width_ - text.size() : 0, ' ');
    std::cerr << '\r' << text << blanks << std::flush;
    width_ = text.size();
  }
  /// What is on the line stays there.
  void end_line() {
    if (width_ > 0) std::cerr << std::endl;
    width_ = 0;
  }

  bool is_terminal_ = is_terminal(2), is_first_ = true;
  Clock::time_point shown_;
  std::size_t width_ = 0;  // of the line that is there
};

}  // namespace AVIARY_ISA
}  // namespace models
