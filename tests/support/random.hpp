#pragma once
/// Seeded inputs of the kind that models make: unit removal keys, log_w <= 0, rates in (0, 1). Others blow up.
/// Every number is a float, whatever type it is asked for in, and the same on every platform up to the last bits of exp
/// and cos: float and double kernels and the references see identical inputs.
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <vector>

#include "aviary/core/config.hpp"

namespace aviary::test {

/// How strongly a sequence forgets.
enum class Decay {
  none,      ///< log_w = 0: w is exactly 1
  slow,      ///< log_w in (-2.5e-3, -1e-4)
  wkv7,      ///< log_w = -exp(-1/2) sigmoid(2 N(0, 1)): w in (0.545, 1), as released RWKV-7 layers have it
  wide,      ///< log_w = -exp(3 N(0, 1)): w from nearly 0 to nearly 1
  extremes,  ///< as wide, but every eighth is 0 and every sixteenth is -infinity, in random places
};

inline char const* name(Decay decay) {
  switch (decay) {
    case Decay::none:
      return "none";
    case Decay::slow:
      return "slow";
    case Decay::wkv7:
      return "wkv7";
    case Decay::wide:
      return "wide";
    case Decay::extremes:
      return "extremes";
  }
  return "?";
}

class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  /// In [low, high).
  double uniform(double low = 0, double high = 1) {
    return low + (high - low) * 0x1p-53 * static_cast<double>(next() >> 11);
  }
  /// 0 ... n - 1.
  Index below(Index n) { return static_cast<Index>(next() % static_cast<std::uint64_t>(n)); }
  /// Mean 0, variance 1.
  double normal() {
    double const radius = std::sqrt(-2 * std::log(1 - uniform()));
    return radius * std::cos(2 * std::numbers::pi * uniform());
  }

  /// n numbers with mean 0: r, k, v, states, gradients.
  template <class T> std::vector<T> normals(Index n, double scale = 1) {
    return make<T>(n, [&] { return scale * normal(); });
  }
  /// n rates in (0, 1): a, beta.
  template <class T> std::vector<T> rates(Index n) {
    return make<T>(n, [&] { return sigmoid(1.5 * normal()); });
  }
  /// n logarithms of decay factors, all <= 0.
  template <class T> std::vector<T> log_decays(Index n, Decay decay) {
    return make<T>(n, [&] { return log_decay(decay); });
  }
  /// rows unit vectors of the given size: kappa_hat, the keys of the delta family. (Unit up to rounding to float.)
  template <class T> std::vector<T> units(Index rows, Index size) {
    std::vector<T> to;
    for (Index row = 0; row < rows; ++row) {
      auto const x = normals<double>(size);
      double sum = 0;
      for (double const e : x) sum += e * e;
      for (double const e : x) to.push_back(rounded<T>(e / std::sqrt(sum)));
    }
    return to;
  }

 private:
  std::uint64_t next() {  // SplitMix64
    std::uint64_t x = (state_ += 0x9e3779b97f4a7c15u);
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
    return x ^ (x >> 31);
  }
  static double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
  template <class T> static T rounded(double x) { return static_cast<T>(static_cast<float>(x)); }
  template <class T, class F> static std::vector<T> make(Index n, F&& f) {
    std::vector<T> to;
    for (Index i = 0; i < n; ++i) to.push_back(rounded<T>(f()));
    return to;
  }
  double log_decay(Decay decay) {
    switch (decay) {
      case Decay::none:
        return 0;
      case Decay::slow:
        return uniform(-2.5e-3, -1e-4);
      case Decay::wkv7:
        return -std::exp(-0.5) * sigmoid(2 * normal());
      case Decay::wide:
        return -std::exp(3 * normal());
      case Decay::extremes: {
        double const chance = uniform();
        if (chance < 1.0 / 8) return 0;
        if (chance < 3.0 / 16) return -std::numeric_limits<double>::infinity();
        return -std::exp(3 * normal());
      }
    }
    return 0;
  }

  std::uint64_t state_;
};

/// The inputs of WKV-7 for (tokens, heads), packed, and a state per head before the first token.
template <class T> struct Wkv7Inputs {
  Index tokens, heads, keys, values;
  std::vector<T> r, log_w, k, v, kappa_hat, a;  // (tokens, heads, keys), v (tokens, heads, values)
  std::vector<T> state;                         // (heads, values, keys)

  Wkv7Inputs(std::uint64_t seed, Index tokens_, Index heads_, Index keys_, Index values_, Decay decay = Decay::wkv7)
      : tokens(tokens_), heads(heads_), keys(keys_), values(values_) {
    Random random(seed);
    Index const rows = tokens * heads;
    r = random.normals<T>(rows * keys);
    log_w = random.log_decays<T>(rows * keys, decay);
    k = random.normals<T>(rows * keys);
    v = random.normals<T>(rows * values);
    kappa_hat = random.units<T>(rows, keys);
    a = random.rates<T>(rows * keys);
    state = random.normals<T>(heads * values * keys);
  }
};

}  // namespace aviary::test
