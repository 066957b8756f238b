#pragma once
/// How long something takes.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <vector>

namespace models {

/// Seconds that f() takes.
template <class F> double seconds(F&& f) {
  auto const begin = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// The median of at least one number.
inline double median(std::vector<double> x) {
  auto const middle = x.begin() + static_cast<std::ptrdiff_t>(x.size() / 2);
  std::nth_element(x.begin(), middle, x.end());
  return *middle;
}

}  // namespace models
