#pragma once
/// What train says while it works, and lines of metrics.
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "aviary/core/config.hpp"
#include "aviary/io/mapped_file.hpp"
#include "aviary/io/output_file.hpp"
#include "models/status.hpp"

namespace train {

using aviary::Index;
using models::formatted;

/// What became of a step.
struct StepReport {
  Index step;
  double loss;  ///< in nats a token
  double bits_per_byte, rate, norm, seconds, tokens_per_second;
  std::optional<double> held_out = {};  ///< bits per byte of text that is not learned
};

/// The status line of a run.
class Display {
 public:
  explicit Display(Index steps) : steps_(steps) {}

  /// Shows a step if that is wanted, or it is the first, or time allows.
  void step(StepReport const& r, double seconds_left, bool wanted) {
    status_.show(wanted, [&] {
      return formatted("step %td/%td  loss %.4f  %.4f bits/byte  %.0f tokens/s  %s left", r.step, steps_, r.loss,
                       r.bits_per_byte, r.tokens_per_second, models::clock_text(seconds_left).c_str());
    });
  }
  /// Prints a line of its own.
  void line(std::string const& text) { status_.line(text); }

 private:
  Index steps_;
  models::Status status_;
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
