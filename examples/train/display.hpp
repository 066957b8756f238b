#pragma once
/// What train says while it works: one line that is rewritten on a terminal, else one every so often; and lines of metrics.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "aviary/core/config.hpp"
#include "aviary/io/mapped_file.hpp"
#include "aviary/io/output_file.hpp"
#include "models/progress.hpp"

namespace train {

using aviary::Index;

/// What became of a step.
struct StepReport {
  Index step;
  double loss;  ///< in nats a token
  double bits_per_byte, rate, norm, seconds, tokens_per_second;
  std::optional<double> held_out = {};  ///< bits per byte of text that is not learned
};

/// Formatted as printf does.
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

class Display {
 public:
  explicit Display(Index steps) : steps_(steps) {}
  Display(Display const&) = delete;
  Display& operator=(Display const&) = delete;
  ~Display() { end_line(); }

  /// Shows a step if that is wanted, or it is the first, or time allows.
  void step(StepReport const& report, double seconds_left, bool wanted) {
    auto const now = Clock::now();
    std::chrono::milliseconds const pause(is_terminal_ ? 100 : 10000);
    if (wanted || is_first_ || now - shown_ >= pause) {
      is_first_ = false, shown_ = now;
      std::string const text =
          formatted("step %td/%td  loss %.4f  %.4f bits/byte  %.0f tokens/s  %s left", report.step, steps_, report.loss,
                    report.bits_per_byte, report.tokens_per_second, clock_text(seconds_left).c_str());
      is_terminal_ ? rewrite(text) : line(text);
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

  Index steps_;
  bool is_terminal_ = models::is_terminal(2), is_first_ = true;
  Clock::time_point shown_;
  std::size_t width_ = 0;  // of the line that is there
};

/// Lines of JSON, one a step.
class Metrics {
 public:
  /// Keeps the lines of a file up to that of step `done`: those after it will come again. Throws std::runtime_error.
  Metrics(std::filesystem::path path, Index done) : path_(std::move(path)) {
    std::string kept;
    if (done > 0 && std::filesystem::exists(path_)) {
      aviary::MappedFile const older(path_);
      for (std::string_view rest = older.text(); !rest.empty();) {
        std::string_view const line = rest.substr(0, rest.find('\n') + 1);
        Index step = 0;
        if (line.empty() || std::sscanf(std::string(line).c_str(), "{\"step\": %td,", &step) != 1 || step > done) break;
        kept += line;
        rest.remove_prefix(line.size());
      }
    }
    aviary::OutputFile file(path_);
    file.write(std::as_bytes(std::span(kept)));
    file.commit();
    file_.reset(std::fopen(path_.string().c_str(), "ab"));
    if (!file_) aviary::throw_errno(errno, path_, "open");
  }

  void add(StepReport const& r) {
    std::string line = formatted(
        "{\"step\": %td, \"loss\": %.9g, \"bits_per_byte\": %.9g, \"rate\": %.9g, \"norm\": %.9g, \"seconds\": %.3f, "
        "\"tokens_per_second\": %.0f",
        r.step, r.loss, r.bits_per_byte, r.rate, r.norm, r.seconds, r.tokens_per_second);
    if (r.held_out) line += formatted(", \"held_out_bits_per_byte\": %.9g", *r.held_out);
    line += "}\n";
    if (std::fwrite(line.data(), 1, line.size(), file_.get()) != line.size() || std::fflush(file_.get()) != 0)
      aviary::throw_errno(errno, path_, "write");
  }

 private:
  struct Close {
    void operator()(std::FILE* file) const noexcept { std::fclose(file); }
  };
  std::filesystem::path path_;
  std::unique_ptr<std::FILE, Close> file_;
};

}  // namespace train
