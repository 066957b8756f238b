/// Gradients of normalisations and of the rotation: doubles against central differences of the formulas written out,
/// floats against doubles within the errors stated.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "aviary/layers/functions.hpp"
#include "aviary/layers/norm.hpp"
#include "aviary/layers/rotary.hpp"
#include "support/allocation_counter.hpp"
#include "support/check.hpp"
#include "support/layer_case.hpp"

using namespace aviary;
using test::Matrix;
using test::Random;

namespace {

/// Five points a step of h apart. What they leave out is h^4 / 30 = 3e-14 times the fifth derivative, some 100 / d^5 for a
/// divisor d, which is 0.4 or more here: 3e-10. Their rounding is 1.5 eps / h = 3e-13 times the function, even where a
/// long double is a double.
constexpr long double h = 1e-3L;
constexpr double difference_bound = 1e-9;

using Numbers = std::vector<long double>;
using Function = std::function<Numbers(Numbers const&)>;

Numbers long_of(std::vector<double> const& x) { return {x.begin(), x.end()}; }

/// The gradient of f(x) . dy at x.
std::vector<double> differences(Function const& f, Numbers x, std::vector<double> const& dy) {
  auto const value = [&] {
    Numbers const y = f(x);
    long double sum = 0;
    for (std::size_t i = 0; i < dy.size(); ++i) sum += y[i] * static_cast<long double>(dy[i]);
    return sum;
  };
  std::vector<double> dx;
  for (long double& e : x) {
    long double const at = e;
    auto const moved = [&](long double by) {
      e = at + by;
      return value();
    };
    dx.push_back(static_cast<double>((8 * (moved(h) - moved(-h)) - (moved(2 * h) - moved(-2 * h))) / (12 * h)));
    e = at;
  }
  return dx;
}

long double length_of(Numbers const& x) {
  long double sum = 0;
  for (long double const e : x) sum += e * e;
  return std::sqrt(sum);
}

Numbers divided(Numbers x, long double by) {
  for (long double& e : x) e /= by;
  return x;
}

/// A normalisation of rows without weights.
struct Rows {
  char const* name;
  Function plain;
  void (*gradient)(VecView<double const> x, VecView<double const> dy, VecView<double> dx);
  void (*of_floats)(VecView<float const> x, VecView<float const> dy, VecView<float> dx);
  long double (*divisor)(Numbers const& x);
};

Rows const all_rows[] = {
    {"max", [](Numbers const& x) { return divided(x, length_of(x)); },
     [](auto x, auto dy, auto dx) { normalize_max_gradient<double>(x, dy, dx); },
     [](auto x, auto dy, auto dx) { normalize_max_gradient<float>(x, dy, dx); },
     [](Numbers const& x) { return length_of(x); }},
    {"max, of less than the least", [](Numbers const& x) { return divided(x, 100); },
     [](auto x, auto dy, auto dx) { normalize_max_gradient<double>(x, dy, dx, 100); },
     [](auto x, auto dy, auto dx) { normalize_max_gradient<float>(x, dy, dx, 100); },
     [](Numbers const&) { return 100.0L; }},
    {"plus", [](Numbers const& x) { return divided(x, std::sqrt(length_of(x) * length_of(x) + 0.25L)); },
     [](auto x, auto dy, auto dx) { normalize_plus_gradient<double>(x, dy, dx, 0.25); },
     [](auto x, auto dy, auto dx) { normalize_plus_gradient<float>(x, dy, dx, 0.25f); },
     [](Numbers const& x) { return std::sqrt(length_of(x) * length_of(x) + 0.25L); }},
    {"rms",
     [](Numbers const& x) { return divided(x, length_of(x) / std::sqrt(static_cast<long double>(x.size())) + 0.125L); },
     [](auto x, auto dy, auto dx) { normalize_rms_gradient<double>(x, dy, dx, 0.125); },
     [](auto x, auto dy, auto dx) { normalize_rms_gradient<float>(x, dy, dx, 0.125f); },
     [](Numbers const& x) { return length_of(x) / std::sqrt(static_cast<long double>(x.size())) + 0.125L; }},
};

/// max |x - expected|; NaN if there is one.
template <class T> double largest_difference(std::vector<T> const& x, std::vector<double> const& expected) {
  double worst = x.size() == expected.size() ? 0 : std::numeric_limits<double>::quiet_NaN();
  for (std::size_t i = 0; i < std::min(x.size(), expected.size()); ++i) {
    double const difference = std::abs(static_cast<double>(x[i]) - expected[i]);
    if (!(difference <= worst)) worst = difference;
  }
  return worst;
}

std::vector<double> doubles(std::vector<float> const& x) { return {x.begin(), x.end()}; }

constexpr double float_eps = std::numeric_limits<float>::epsilon();

/// Group norm of a row, x, weight and bias one after another.
Function plain_norm(Index channels, Index heads, long double eps) {
  return [=](Numbers const& all) {
    std::size_t const c = to_size(channels), n = c / to_size(heads);
    Numbers y;
    for (std::size_t at = 0; at < c; at += n) {
      long double mean = 0, square = 0;
      for (std::size_t i = at; i < at + n; ++i) mean += all[i] / static_cast<long double>(n);
      for (std::size_t i = at; i < at + n; ++i) square += (all[i] - mean) * (all[i] - mean);
      long double const deviation = std::sqrt(square / static_cast<long double>(n) + eps);
      for (std::size_t i = at; i < at + n; ++i) y.push_back((all[i] - mean) / deviation * all[c + i] + all[2 * c + i]);
    }
    return y;
  };
}

template <class T> struct NormGradients {
  Matrix<T> dx;
  std::vector<T> dweight, dbias;
};

template <class T>
NormGradients<T> gradients_of(std::vector<T> const& w, Index heads, T eps, Matrix<T> const& x, Matrix<T> const& dy) {
  std::vector<T> const bias(w.size());
  NormGradients<T> to{Matrix<T>(x.rows, x.columns), std::vector<T>(w.size()), std::vector<T>(w.size())};
  GroupNorm<T>(w, bias, heads, eps).backward(x.view(), dy.view(), to.dx.view(), to.dweight, to.dbias);
  return to;
}

}  // namespace

TEST_CASE("norm_gradients: rows against central differences, and floats against doubles") {
  for (Rows const& rows : all_rows)
    for (Index const n : {1, 2, 3, 8, 15, 16, 17, 64, 100}) {
      test::Note const name("normalisation", rows.name), size("size", n);
      auto const x = Random(1).normals<float>(n), dy = Random(2).normals<float>(n);
      auto const wide_x = doubles(x), wide_dy = doubles(dy);
      std::vector<double> dx(to_size(n));
      rows.gradient(wide_x, wide_dy, dx);
      double const off = largest_difference(dx, differences(rows.plain, long_of(wide_x), wide_dy));
      test::check_that(off <= difference_bound, "it is the derivative");

      double const unit = float_eps * static_cast<double>(length_of(long_of(wide_dy)) / rows.divisor(long_of(wide_x)));
      std::vector<float> narrow(to_size(n)), in_place = dy, over_x = x;
      rows.of_floats(x, dy, narrow);
      test::check_that(largest_difference(narrow, dx) <= static_cast<double>(n + 10) * unit, "the error is as stated");
      rows.of_floats(x, in_place, in_place);
      test::check_equal(in_place, narrow);
      rows.of_floats(over_x, dy, over_x);
      test::check_equal(over_x, narrow);
    }
}

TEST_CASE_TEMPLATE("norm_gradients: short rows and zeros have finite gradients", T, float, double) {
  std::vector<T> const zeros(20), tiny(20, T(1e-15)), ones(20, T(1));
  std::vector<T> dx(20);
  normalize_max_gradient<T>(zeros, ones, dx);
  for (T const e : dx) CHECK(static_cast<double>(e) == doctest::Approx(1e12).epsilon(1e-6));
  normalize_max_gradient<T>(tiny, ones, dx);  // shorter than the least, which they are divided by
  for (T const e : dx) CHECK(static_cast<double>(e) == doctest::Approx(1e12).epsilon(1e-6));
  normalize_plus_gradient<T>(zeros, ones, dx);
  for (T const e : dx) CHECK(static_cast<double>(e) == doctest::Approx(1e3).epsilon(1e-6));
  normalize_rms_gradient<T>(zeros, ones, dx);
  for (T const e : dx) CHECK(static_cast<double>(e) == doctest::Approx(1e8).epsilon(1e-6));
  normalize_rms_gradient<T>(tiny, ones, dx);
  for (T const e : dx) CHECK(std::isfinite(e));
}

TEST_CASE_TEMPLATE("norm_gradients: heads of rows are rows of their own", T, float, double) {
  constexpr Index size = 24, heads = 3, tokens = 4;
  Random random(3);
  Matrix<T> const x(tokens, size * heads, random), dy(tokens, size * heads, random);
  Matrix<T> dx(tokens, size * heads), expected = dx;
  normalize_heads_gradient<T>(x.view(), size, dy.view(), dx.view());
  for (Index t = 0; t < tokens; ++t)
    for (Index at = 0; at < size * heads; at += size)
      normalize_max_gradient<T>(x.view()[t].segment(at, size), dy.view()[t].segment(at, size),
                                expected.view()[t].segment(at, size));
  test::check_equal(dx.numbers, expected.numbers);
}

TEST_CASE("norm_gradients: layer norm and group norm against central differences, and floats against doubles") {
  for (Index const heads : {1, 2, 5})
    for (Index const size : {1, 2, 8, 15, 17, 64}) {
      test::Note const note_heads("heads", heads), note_size("size", size);
      Index const c = heads * size;
      float const eps = 0.25f;  // mild where the two numbers of a group of two are close
      Random random(4);
      Matrix<float> const x(1, c, random), dy(1, c, random);
      auto const w = random.normals<float>(c);
      auto const narrow = gradients_of<float>(w, heads, eps, x, dy);
      Matrix<double> wide_x(1, c), wide_dy(1, c);
      wide_x.numbers = doubles(x.numbers);
      wide_dy.numbers = doubles(dy.numbers);
      auto const wide = gradients_of<double>(doubles(w), heads, static_cast<double>(eps), wide_x, wide_dy);

      std::vector<double> all = wide_x.numbers, together = wide.dx.numbers;
      for (float const e : w) all.push_back(static_cast<double>(e));
      all.resize(to_size(3 * c));
      together.insert(together.end(), wide.dweight.begin(), wide.dweight.end());
      together.insert(together.end(), wide.dbias.begin(), wide.dbias.end());
      auto const expected =
          differences(plain_norm(c, heads, static_cast<long double>(eps)), long_of(all), wide_dy.numbers);
      test::check_that(largest_difference(together, expected) <= difference_bound, "it is the derivative");

      double g = 0, d = 0;  // the scale is 2 at most
      for (std::size_t i = 0; i < to_size(c); ++i) {
        g = std::max(g, std::abs(wide_dy.numbers[i] * all[to_size(c) + i]));
        d = std::max(d, std::abs(wide_dy.numbers[i]));
      }
      double const unit = static_cast<double>(size + 10) * float_eps;
      test::check_that(largest_difference(narrow.dx.numbers, wide.dx.numbers) <= 2 * unit * g, "dx");
      test::check_that(largest_difference(narrow.dweight, wide.dweight) <= 2 * unit * d, "dweight");
      test::check_that(largest_difference(narrow.dbias, wide.dbias) <= 0, "dbias of one row is dy");
    }
}

TEST_CASE_TEMPLATE("norm_gradients: weights and biases get the sum over rows and calls, in order", T, float, double) {
  constexpr Index tokens = 5, channels = 40, heads = 2;
  Random random(5);
  Matrix<T> const x(tokens, channels, random), dy(tokens, channels, random);
  auto const w = random.normals<T>(channels), b = random.normals<T>(channels);
  GroupNorm<T> const norm(w, b, heads);
  std::vector<T> dweight(channels), dbias(channels);
  Matrix<T> dx(tokens, channels), in_place = dy, over_x = x;
  norm.backward(x.view(), dy.view(), dx.view(), dweight, dbias);

  std::vector<T> row_dweight(channels), row_dbias(channels), in_place_dweight(channels), in_place_dbias(channels);
  Matrix<T> row_dx(tokens, channels);
  for (Index t = 0; t < tokens; ++t)
    norm.backward(x.rows_of(t, 1), dy.rows_of(t, 1), row_dx.view().rows(t, 1), row_dweight, row_dbias);
  test::check_equal(row_dx.numbers, dx.numbers);
  test::check_equal(row_dweight, dweight);
  test::check_equal(row_dbias, dbias);
  norm.backward(x.view(), in_place.view(), in_place.view(), in_place_dweight, in_place_dbias);
  test::check_equal(in_place.numbers, dx.numbers);
  test::check_equal(in_place_dweight, dweight);
  norm.backward(over_x.view(), dy.view(), over_x.view(), in_place_dweight, in_place_dbias);
  test::check_equal(over_x.numbers, dx.numbers);

  for (Index i = 0; i < channels; ++i) {
    T sum(0);
    for (Index t = 0; t < tokens; ++t) sum += dy(t, i);
    CHECK(dbias[to_size(i)] == sum);
  }
}

TEST_CASE("norm_gradients: equal numbers have finite gradients") {
  std::vector<float> const w(32, 3.f), b(32, 0.5f);
  Random random(6);
  Matrix<float> const x(2, 32, 4.f), dy(2, 32, random);
  Matrix<float> dx(2, 32);
  std::vector<float> dweight(32), dbias(32);
  LayerNorm<float>(w, b).backward(x.view(), dy.view(), dx.view(), dweight, dbias);
  for (float const e : dx.numbers) CHECK(std::isfinite(e));
  for (float const e : dweight) CHECK(e == 0);
}

TEST_CASE("norm_gradients: they allocate nothing") {
  constexpr Index tokens = 3, channels = 48;
  Random random(7);
  Matrix<float> const x(tokens, channels, random);
  auto const w = random.normals<float>(channels), b = random.normals<float>(channels);
  GroupNorm<float> const norm(w, b, 3);
  Rotary const rotary(16);
  Matrix<float> d(tokens, channels, random);
  std::vector<float> dweight(channels), dbias(channels);
  test::AllocationCounter const allocations;
  norm.backward(x.view(), d.view(), d.view(), dweight, dbias);
  normalize_heads_gradient<float>(x.view(), 16, d.view(), d.view());
  rotary.backward(d.view(), 7);
  CHECK(allocations.count() == 0);
}

// f(x) . dy of a rotation, which is linear, has the gradient that makes dx . x equal to dy . f(x) for every x.
TEST_CASE_TEMPLATE("norm_gradients: the rotation's gradient turns the other way", T, float, double) {
  constexpr double bound = 4 * static_cast<double>(std::numeric_limits<T>::epsilon());  // of numbers below 4 or so
  Random random(8);
  Matrix<T> const x(4, 24, random), dy(4, 24, random);
  Rotary const rotary(8, 100);
  Matrix<T> y = x, dx = dy;
  rotary(y.view(), 9);
  rotary.backward(dx.view(), 9);
  double through_y = 0, through_x = 0, sizes = 0;
  for (std::size_t i = 0; i < x.numbers.size(); ++i) {
    through_y += static_cast<double>(y.numbers[i]) * static_cast<double>(dy.numbers[i]);
    through_x += static_cast<double>(x.numbers[i]) * static_cast<double>(dx.numbers[i]);
    sizes += std::abs(static_cast<double>(x.numbers[i]) * static_cast<double>(dx.numbers[i]));
  }
  CHECK(std::abs(through_x - through_y) <= bound * sizes);
  rotary.backward(y.view(), 9);
  test::check_close(y.numbers, x.numbers, bound);
}
