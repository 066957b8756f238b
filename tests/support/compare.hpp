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
/// absolute. NaN, a wrong infinity and a wrong size are never within any bound.
#include <algorithm>
#include <cmath>
#include <limits>
#include <ostream>

#include "aviary/core/config.hpp"

namespace aviary::test {

/// An error, and the place where the numbers differ most.
struct Error {
  double value = 0;
  Index at = -1, size = 0, expected_size = 0;
  double got = 0, expected = 0;

  friend bool operator<=(Error const& error, double bound) { return error.value <= bound; }
  friend bool operator<(Error const& error, double bound) { return error.value < bound; }
  friend bool operator>(Error const& error, double bound) { return error.value > bound; }
  friend bool operator==(Error const& error, double bound) { return error.value <= bound && error.value >= bound; }
  friend std::ostream& operator<<(std::ostream& out, Error const& error) {
    if (error.size != error.expected_size) return out << error.size << " numbers, expected " << error.expected_size;
    out << error.value;
    if (error.at >= 0) out << " (at " << error.at << ": " << error.got << ", expected " << error.expected << ")";
    return out;
  }
};

/// What both measures are made of.
struct Comparison {
  Error worst;  // |x - ref| itself
  double largest = 0, square = 0, error_square = 0;
};

template <class X, class Ref> Comparison compare(X const& x, Ref const& ref) {
  Comparison sums;
  sums.worst.size = static_cast<Index>(x.size());
  sums.worst.expected_size = static_cast<Index>(ref.size());
  if (sums.worst.size != sums.worst.expected_size) {
    sums.worst.value = std::numeric_limits<double>::quiet_NaN();
    return sums;
  }
  auto const* const got = x.data();
  auto const* const want = ref.data();
  for (Index i = 0; i < sums.worst.size; ++i) {
    double const g = static_cast<double>(got[i]), w = static_cast<double>(want[i]);
    double const difference = std::isinf(w) && (g > 0) == (w > 0) && std::isinf(g) ? 0 : std::abs(g - w);
    if (std::isfinite(w)) sums.largest = std::max(sums.largest, std::abs(w));
    sums.square += std::isfinite(w) ? w * w : 0;
    sums.error_square += difference * difference;
    if (!std::isnan(sums.worst.value) && !(difference <= sums.worst.value)) {
      sums.worst.value = difference;
      sums.worst.at = i;
      sums.worst.got = g;
      sums.worst.expected = w;
    }
  }
  return sums;
}

/// max |x - ref| / max |ref|; both have data() and size().
template <class X, class Ref> Error max_error(X const& x, Ref const& ref) {
  auto const sums = compare(x, ref);
  Error error = sums.worst;
  if (sums.largest > 0) error.value /= sums.largest;
  return error;
}

/// |x - ref| / |ref| in the Euclidean norm; both have data() and size().
template <class X, class Ref> Error l2_error(X const& x, Ref const& ref) {
  auto const sums = compare(x, ref);
  Error error = sums.worst;
  if (!std::isnan(error.value)) error.value = std::sqrt(sums.error_square / (sums.square > 0 ? sums.square : 1));
  return error;
}

}  // namespace aviary::test
