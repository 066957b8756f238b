/// Attention over blocks of keys and values against a plain softmax, and the cache that holds them.
#include "aviary/cache/attention.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "support/allocation_counter.hpp"
#include "support/compare.hpp"
#include "support/layer_case.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::Matrix;
using test::max_error;
using test::Random;

namespace {

template <class T> constexpr double bound = std::is_same_v<T, float> ? 3e-6 : 1e-14;

template <class T> struct Case {
  Index positions, heads, size, channels = heads * size;
  Matrix<T> q{0, 0}, k{0, 0}, v{0, 0};

  Case(Index n, Index h, Index head_size, double scale = 1) : positions(n), heads(h), size(head_size) {
    Random random(static_cast<std::uint64_t>(n + 1000 * h + 100000 * head_size));
    q = Matrix<T>(n, channels, random, scale);
    k = Matrix<T>(n, channels, random);
    v = Matrix<T>(n, channels, random);
  }

  /// What the last m positions read.
  std::vector<double> plain(Index m) const {
    std::vector<double> y(to_size(m * channels));
    for (Index t = positions - m; t < positions; ++t)
      for (Index h = 0; h < heads; ++h) {
        std::vector<double> score;
        for (Index s = 0; s <= t; ++s) {
          score.push_back(0);
          for (Index i = h * size; i < (h + 1) * size; ++i)
            score.back() += static_cast<double>(q(t, i)) * static_cast<double>(k(s, i));
        }
        double const largest = *std::max_element(score.begin(), score.end());
        double sum = 0;
        for (double& e : score) sum += e = std::exp(e - largest);
        for (Index s = 0; s <= t; ++s)
          for (Index i = h * size; i < (h + 1) * size; ++i)
            y[to_size((t - positions + m) * channels + i)] += score[to_size(s)] / sum * static_cast<double>(v(s, i));
      }
    return y;
  }

  KeyValueCache<T> cache() const {
    KeyValueCache<T> cache(channels, heads);
    cache.append(k.view(), v.view());
    return cache;
  }
  template <class E = Serial> Matrix<T> attend(KeyValueCache<T> const& cache, Index m, E&& executor = {}) const {
    Scratch<T> scratch(m * cache.scratch_size());
    Matrix<T> y(m, channels, std::numeric_limits<T>::quiet_NaN());
    cache.attend(q.rows_of(positions - m, m), positions - m, y.view(), scratch, executor);
    CHECK(scratch.left() == m * cache.scratch_size());
    return y;
  }
};

}  // namespace

TEST_CASE_TEMPLATE("attention: a plain softmax, for all sizes around blocks, tiles and panels", T, float, double) {
  for (Index const n : {1, 2, 31, 33, 127, 128, 129, 300})
    for (Index const size : {1, 16, 31, 64, 65, 130})
      for (Index const m : {Index{1}, std::min(n, Index{5}), n}) {
        Case<T> const given(n, n < 200 ? 3 : 1, size, 1 / std::sqrt(static_cast<double>(size)));
        CAPTURE(n);
        CAPTURE(size);
        CAPTURE(m);
        CHECK(max_error(given.attend(given.cache(), m).numbers, given.plain(m)) <= bound<T>);
      }
}

TEST_CASE_TEMPLATE("attention: a query has the same bits alone and among others, and whatever follows it", T, float,
                   double) {
  Case<T> const given(270, 2, 40);
  KeyValueCache<T> const whole = given.cache();
  Matrix<T> const expected = given.attend(whole, 270);
  CHECK(given.attend(whole, 1).numbers == std::vector<T>(expected.numbers.end() - 80, expected.numbers.end()));
  KeyValueCache<T> grown(80, 2);
  Scratch<T> scratch(270 * grown.scratch_size());
  Matrix<T> y(270, 80);
  for (Index first = 0, n = 1; first < 270; first += n, n = std::min(n * 2 + 1, 270 - first)) {
    grown.append(given.k.rows_of(first, n), given.v.rows_of(first, n));
    grown.attend(given.q.rows_of(first, n), first, y.view().rows(first, n), scratch);
  }
  CHECK(y == expected);
  CHECK(grown.size() == 270);
}

TEST_CASE_TEMPLATE("attention: any executor, the same bits", T, float, double) {
  Case<T> const given(400, 5, 64);
  KeyValueCache<T> const cache = given.cache();
  Matrix<T> const expected = given.attend(cache, 200);
  for (Index const tasks : {2, 3, 5, 16}) CHECK(given.attend(cache, 200, test::Backwards{tasks}) == expected);
}

TEST_CASE_TEMPLATE("attention: scores of hundreds neither overflow nor lose the rest", T, float, double) {
  Case<T> given(200, 2, 16, 60);
  // An error of eps in a score of hundreds is one of hundreds of eps in its exponential.
  CHECK(max_error(given.attend(given.cache(), 200).numbers, given.plain(200)) <= 300 * bound<T>);
  for (Index s = 0; s < 200; ++s)
    for (Index i = 0; i < 32; ++i) given.k(s, i) = static_cast<T>(s * 2);  // ever larger: all weight moves to the last
  for (T& e : given.q.numbers) e = 1;
  CHECK(max_error(given.attend(given.cache(), 200).numbers, given.plain(200)) <= bound<T>);
}

TEST_CASE("attention: truncated and appended again is as if never appended, whatever the blocks held") {
  Case<float> const given(300, 2, 16);
  KeyValueCache<float> cache(32, 2);
  cache.append(given.k.rows_of(0, 140), given.v.rows_of(0, 140));
  Matrix<float> const nan(160, 32, std::numeric_limits<float>::quiet_NaN());
  cache.append(nan.view(), nan.view());
  cache.truncate(140);
  CHECK(cache.size() == 140);
  cache.append(given.k.rows_of(140, 160), given.v.rows_of(140, 160));
  CHECK(given.attend(cache, 300) == given.attend(given.cache(), 300));
}

TEST_CASE("attention: neither appending within the capacity nor attending allocates, and outputs alone are written") {
  Case<float> const given(300, 2, 20);
  KeyValueCache<float> cache(40, 2);
  cache.reserve(300);
  CHECK(cache.capacity() >= 300);
  CHECK(cache.size_bytes() == 3 * 128 * 2 * (20 + 32) * 4);  // values of heads of 20 lie in panels of 32
  Scratch<float> scratch(50 * cache.scratch_size());
  Matrix<float> around(52, 60, -7);
  MatView<float> const y(&around(1, 10), 50, 40, 60);
  test::AllocationCounter const allocations;
  cache.append(given.k.rows_of(0, 130), given.v.rows_of(0, 130));
  cache.append(given.k.rows_of(130, 170), given.v.rows_of(130, 170));
  cache.attend(given.q.rows_of(250, 50), 250, y, scratch);
  CHECK(allocations.count() == 0);
  Matrix<float> const expected = given.attend(cache, 50);
  for (Index t = 0; t < 52; ++t)
    for (Index i = 0; i < 60; ++i) {
      bool const inside = t >= 1 && t < 51 && i >= 10 && i < 50;
      CHECK(around(t, i) == (inside ? expected(t - 1, i - 10) : -7.0f));
    }
}

TEST_CASE("attention: channels that do not make heads are refused") {
  CHECK(test::message_of<std::invalid_argument>([] { KeyValueCache<float>(33, 2); }) ==
        "aviary: KeyValueCache: 33 channels do not make 2 heads");
  CHECK(test::message_of<std::invalid_argument>([] { KeyValueCache<float>(32, 0); }) ==
        "aviary: KeyValueCache: 32 channels do not make 0 heads");
}
