#pragma once
/// How far numbers are from their reference, in the two measures that bounds are stated in:
///
///     max_error(x, ref)  max |x - ref| / max |ref|
///     l2_error(x, ref)   |x - ref| / |ref|            (Euclidean)
///
///     CHECK(max_error(y, reference) <= 3e-6);
///
/// prints on failure how far, where, and both numbers there. Errors are relative to the largest number of the reference,
/// not to each: what cancels to nearly zero has no relative accuracy. Where the reference is all zeros the error is
/// absolute. NaN, a wrong infinity, a wrong size and nothing at all are never within any bound.
#include <iosfwd>
#include <type_traits>

#include "aviary/core/config.hpp"

namespace aviary::test {

/// Numbers in float or double, wherever they lie: anything that has data() and size().
class NumberSpan {
 public:
  template <class X>
  requires requires(X const& x) { x.data(), x.size(); }
  NumberSpan(X const& x) : NumberSpan(x.data(), static_cast<Index>(x.size())) {}
  NumberSpan(float const* data, Index size) : floats_(data), size_(size) {}
  NumberSpan(double const* data, Index size) : doubles_(data), size_(size) {}

  Index size() const { return size_; }
  double operator[](Index i) const { return floats_ != nullptr ? static_cast<double>(floats_[i]) : doubles_[i]; }

 private:
  float const* floats_ = nullptr;
  double const* doubles_ = nullptr;
  Index size_;
};

/// An error, and the place where the numbers differ most.
struct Error {
  double value = 0;
  Index at = -1, size = 0, expected_size = 0;
  double got = 0, expected = 0;

  friend bool operator<=(Error const& error, double bound) { return error.value <= bound; }
  friend bool operator<(Error const& error, double bound) { return error.value < bound; }
  friend bool operator>(Error const& error, double bound) { return error.value > bound; }
  friend bool operator==(Error const& error, double bound) { return error.value <= bound && error.value >= bound; }
  friend std::ostream& operator<<(std::ostream& out, Error const& error);
};

/// max |x - ref| / max |ref|
Error max_error(NumberSpan x, NumberSpan ref);

/// |x - ref| / |ref| in the Euclidean norm.
Error l2_error(NumberSpan x, NumberSpan ref);

}  // namespace aviary::test
