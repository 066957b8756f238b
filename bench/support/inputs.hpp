#pragma once
/// Seeded inputs of the kind that layers make, on which states stay ordinary numbers.
#include <cmath>
#include <random>
#include <vector>

#include "aviary/core/config.hpp"
#include "aviary/core/math.hpp"

namespace aviary::bench {

/// Makes numbers T. Those of one seed are the same in every run.
template <class T> class Inputs {
 public:
  explicit Inputs(unsigned seed) : random_(seed) {}

  /// n numbers of mean 0.
  std::vector<T> normals(Index n, T scale = T(1)) {
    std::vector<T> numbers(to_size(n));
    for (T& x : numbers) x = scale * normal_(random_);
    return numbers;
  }
  /// n rates in (0, 1).
  std::vector<T> rates(Index n) {
    auto numbers = normals(n, T(1.5));
    for (T& x : numbers) x = sigmoid(x);
    return numbers;
  }
  /// n logarithms of decays, as layers of RWKV-7 have them.
  std::vector<T> log_decays(Index n) {
    auto numbers = normals(n, T(2));
    for (T& x : numbers) x = log_w_of_sigmoid(x);
    return numbers;
  }
  /// Rows of unit length.
  std::vector<T> units(Index rows, Index size) {
    auto numbers = normals(rows * size);
    for (auto row = numbers.begin(); row != numbers.end(); row += size) {
      T sum = 0;
      for (auto x = row; x != row + size; ++x) sum += *x * *x;
      for (auto x = row; x != row + size; ++x) *x /= std::sqrt(sum);
    }
    return numbers;
  }

 private:
  std::minstd_rand random_;
  std::normal_distribution<T> normal_;
};

/// What WKV-7 reads of (tokens, heads) with keys and values of one size, packed. Other rules of the matrix family find there what
/// they read: `unit` rows and `rate`s in (0, 1), too.
template <class T> struct Tokens {
  Index tokens, heads;
  std::vector<T> r, log_w, k, v, unit, rate;

  Tokens(Index tokens_, Index heads_, Index size) : tokens(tokens_), heads(heads_) {
    Inputs<T> make(1);
    Index const rows = tokens * heads, n = rows * size;
    r = make.normals(n);
    log_w = make.log_decays(n);
    k = make.normals(n);
    v = make.normals(n);
    unit = make.units(rows, size);
    rate = make.rates(n);
  }
};

}  // namespace aviary::bench
