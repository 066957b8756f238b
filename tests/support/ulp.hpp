#pragma once
/// How many units in the last place a function of float is off.
#include <algorithm>
#include <cmath>
#include <limits>

#include "support/worst.hpp"

namespace aviary::test {

/// |x - exact| in units of the last place of a float as large as exact (of the smallest normal one below that).
inline double ulps(float x, double exact) {
  double const least = static_cast<double>(std::numeric_limits<float>::min());
  double const unit = std::ldexp(1.0, std::ilogb(std::max(std::abs(exact), least)) - 23);
  return std::abs(static_cast<double>(x) - exact) / unit;
}

/// How many floats the errors of a function are looked at, evenly laid. Fewer where an emulator may run the tests.
#if defined(AVIARY_TEST_ONE_SIZE)
inline constexpr int even_floats = 50'000;
#else
inline constexpr int even_floats = 500'000;
#endif

/// The largest error of f over floats in [low, high], even_floats of them evenly laid, others ever denser around zero. NaN if
/// f is.
template <class F, class Exact> double worst_ulps(float low, float high, F&& f, Exact&& exact) {
  Worst worst;
  auto const look = [&](float x) { worst.add(ulps(f(x), exact(static_cast<double>(x)))); };
  for (int i = 0; i <= even_floats; ++i) look(low + (high - low) * (static_cast<float>(i) / even_floats));
  for (float x = 0x1p-60f; x < std::max(std::abs(low), std::abs(high)); x *= 1.0003f) {
    if (x <= high) look(x);
    if (-x >= low) look(-x);
  }
  return worst;
}

}  // namespace aviary::test
