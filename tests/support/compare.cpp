#include "support/compare.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <ostream>

namespace aviary::test {
namespace {

/// What both measures are made of.
struct Comparison {
  Error worst;  // |x - ref| itself
  double largest = 0, square = 0, error_square = 0;
};

Comparison compare(NumberSpan x, NumberSpan ref) {
  Comparison sums;
  sums.worst.size = x.size();
  sums.worst.expected_size = ref.size();
  if (x.size() != ref.size() || ref.size() == 0) {
    sums.worst.value = std::numeric_limits<double>::quiet_NaN();
    return sums;
  }
  for (Index i = 0; i < x.size(); ++i) {
    double const g = x[i], w = ref[i];
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

}  // namespace

std::ostream& operator<<(std::ostream& out, Error const& error) {
  if (error.expected_size == 0) return out << error.size << " numbers, and none to compare them with";
  if (error.size != error.expected_size) return out << error.size << " numbers, expected " << error.expected_size;
  out << error.value;
  if (error.at >= 0) out << " (at " << error.at << ": " << error.got << ", expected " << error.expected << ")";
  return out;
}

Error max_error(NumberSpan x, NumberSpan ref) {
  Comparison const sums = compare(x, ref);
  Error error = sums.worst;
  if (sums.largest > 0) error.value /= sums.largest;
  return error;
}

Error l2_error(NumberSpan x, NumberSpan ref) {
  Comparison const sums = compare(x, ref);
  Error error = sums.worst;
  if (!std::isnan(error.value)) error.value = std::sqrt(sums.error_square / (sums.square > 0 ? sums.square : 1));
  return error;
}

}  // namespace aviary::test
