#pragma once
/// The largest of many errors.
#include <cmath>
#include <limits>

namespace aviary::test {

/// Keeps the largest error that it is given. NaN is the largest of all, and stays: std::max loses it, and so does
/// `if (!(error <= worst)) worst = error` at the next number. Of no error at all it is NaN too, so that a comparison of
/// nothing is within no bound.
class Worst {
 public:
  void add(double error) noexcept {
    if (none_ || (!std::isnan(value_) && !(error <= value_))) value_ = error;
    none_ = false;
  }
  operator double() const noexcept { return value_; }

 private:
  double value_ = std::numeric_limits<double>::quiet_NaN();
  bool none_ = true;
};

}  // namespace aviary::test
