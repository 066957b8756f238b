#pragma once
/// What golden_check prints and counts.
#include <cstdio>
#include <string>

#include "support/compare.hpp"

namespace aviary::golden_check {

class Report {
 public:
  /// One quantity of one file, computed in one way.
  void compare(std::string const& file, std::string const& tensor, std::string const& type, test::NumberSpan x,
               test::NumberSpan expected, double bound) {
    test::Error const error = test::max_error(x, expected);
    bool const ok = error <= bound;
    ++(ok ? ok_ : failed_);
    if (tensor.starts_with("grad")) ++gradients_;
    std::printf("%s  %s  %s  %.2e  bound %.0e  %s\n", file.c_str(), tensor.c_str(), type.c_str(), error.value, bound,
                ok ? "ok" : "FAIL");
  }
  /// A file that could not be read, or run. (Messages of readers begin with the file already.)
  void fail(std::string const& file, std::string const& why) {
    ++failed_;
    std::printf("%s  FAIL\n", (why.starts_with(file) ? why : file + ": " + why).c_str());
  }
  void skip(std::string const& file, std::string const& why) {
    ++skipped_;
    std::printf("%s  %s  skipped\n", file.c_str(), why.c_str());
  }

  /// Prints the counts; false if anything failed, or nothing was compared.
  bool finish() const {
    std::printf("%d gradients compared\n", gradients_);
    std::printf("%d ok, %d FAIL, %d skipped\n", ok_, failed_, skipped_);
    return failed_ == 0 && ok_ > 0;
  }
  int seen() const { return ok_ + failed_ + skipped_; }

 private:
  int ok_ = 0, failed_ = 0, skipped_ = 0, gradients_ = 0;
};

}  // namespace aviary::golden_check
