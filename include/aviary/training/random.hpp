#pragma once
/// Random numbers with the same bits everywhere: std's distributions differ between libraries, and log between systems.
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>

#include "aviary/core/config.hpp"

namespace AVIARY_NAMESPACE {

/// A generator of random numbers (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
/// Its whole state is one number, which may be saved.
class SplitMix64 {
 public:
  explicit constexpr SplitMix64(std::uint64_t seed) noexcept : state_(seed) {}
  /// The generator of a thing with a name: whatever else is drawn, and in which order, it begins at the same place.
  constexpr SplitMix64(std::uint64_t seed, std::string_view name) noexcept : state_(seed) {
    std::uint64_t hash = 0xcbf29ce484222325u;  // FNV-1a
    for (char const c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    state_ = next() ^ hash;
    state_ = next();
  }

  constexpr std::uint64_t state() const noexcept { return state_; }

  constexpr std::uint64_t next() noexcept {
    std::uint64_t x = (state_ += 0x9e3779b97f4a7c15u);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }

  /// In [-bound, bound), evenly.
  constexpr double uniform(double bound) noexcept {
    return bound * (0x1p-52 * static_cast<double>(next() >> 11) - 1);  // only the last product rounds
  }

  /// Normally distributed, mean 0 and variance 1, by the polar method (Marsaglia and Bray, 1964). Multiplications and
  /// additions are fused by hand, so that no compiler does it otherwise.
  double normal() noexcept {
    for (;;) {
      double const x = uniform(1), y = uniform(1), square = std::fma(x, x, y * y);
      if (square < 1 && square > 0) return x * std::sqrt(-2 * log(square) / square);
    }
  }

 private:
  /// The logarithm of a normal x > 0.  Error: a few units of the last place.
  static double log(double x) noexcept {
    int power = 0;
    double fraction = std::frexp(x, &power);  // in [1/2, 1)
    if (fraction < 0.5 * std::numbers::sqrt2) fraction *= 2, --power;
    double const s = (fraction - 1) / (fraction + 1), square = s * s;  // log f = 2 (s + s^3/3 + s^5/5 + ...)
    double series = 0;
    for (int n = 25; n >= 3; n -= 2) series = std::fma(series, square, 1.0 / n);
    double const rest = std::fma(s * square, series, s);
    return std::fma(static_cast<double>(power), std::numbers::ln2, 2 * rest);
  }

  std::uint64_t state_;
};

}  // namespace AVIARY_NAMESPACE
