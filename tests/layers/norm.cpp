#include "aviary/layers/norm.hpp"

#include <doctest/doctest.h>

#include "support/allocation_counter.hpp"
#include "support/compare.hpp"
#include "support/layer_case.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::Matrix;
using test::max_error;
using test::Random;

namespace {

/// Rounding of a float or double layer (equations of layers: 2e-5 and 1e-12).
template <class T> constexpr double bound = std::is_same_v<T, float> ? 2e-5 : 1e-12;

template <class T>
Matrix<double> plain_norm(Matrix<T> const& x, std::vector<T> const& w, std::vector<T> const& b, Index heads, T eps) {
  Matrix<double> y(x.rows, x.columns);
  Index const n = x.columns / heads;
  for (Index t = 0; t < x.rows; ++t)
    for (Index h = 0; h < heads; ++h) {
      double mean = 0, square = 0;
      for (Index i = h * n; i < (h + 1) * n; ++i) mean += static_cast<double>(x(t, i)) / static_cast<double>(n);
      for (Index i = h * n; i < (h + 1) * n; ++i) square += std::pow(static_cast<double>(x(t, i)) - mean, 2);
      double const deviation = std::sqrt(square / static_cast<double>(n) + static_cast<double>(eps));
      for (Index i = h * n; i < (h + 1) * n; ++i)
        y(t, i) = (static_cast<double>(x(t, i)) - mean) / deviation * static_cast<double>(w[to_size(i)]) +
                  static_cast<double>(b[to_size(i)]);
    }
  return y;
}

}  // namespace

TEST_CASE_TEMPLATE("norm: layer norm and group norm of a plain loop", T, float, double) {
  Random random(1);
  for (Index const heads : {1, 2, 5})
    for (Index const size : {1, 2, 8, 15, 16, 17, 64, 100}) {
      Index const c = heads * size;
      Matrix<T> const x(4, c, random);
      auto const w = random.normals<T>(c), b = random.normals<T>(c);
      Matrix<T> y(4, c);
      for (T const eps : {T(64e-5), T(1e-5)}) {
        GroupNorm<T>(w, b, heads, eps)(x.view(), y.view());
        CHECK(max_error(y.numbers, plain_norm(x, w, b, heads, eps).numbers) <= bound<T>);
      }
      if (heads == 1) {
        LayerNorm<T>(w, b)(x.view(), y.view());
        CHECK(max_error(y.numbers, plain_norm(x, w, b, 1, T(1e-5)).numbers) <= bound<T>);
      }
    }
}

TEST_CASE_TEMPLATE("norm: in place is the same, a large mean costs no accuracy beyond its rounding", T, float, double) {
  Random random(2);
  Matrix<T> x(3, 96, random);
  for (T& e : x.numbers) e += T(100);
  auto const w = random.normals<T>(96), b = random.normals<T>(96);
  GroupNorm<T> const norm(w, b, 2);
  Matrix<T> y(3, 96), z = x;
  norm(x.view(), y.view());
  norm(z.view(), z.view());
  CHECK(y == z);
  // The mean is off by 100 eps at most, which a variance of about 1 passes on.
  double const rounding = 200 * static_cast<double>(std::numeric_limits<T>::epsilon());
  CHECK(max_error(y.numbers, plain_norm(x, w, b, 2, T(64e-5)).numbers) <= rounding);
}

TEST_CASE("norm: equal numbers give the bias") {
  std::vector<float> const w(32, 3.f), b(32, 0.5f);
  Matrix<float> x(2, 32, 4.f), y(2, 32);
  LayerNorm<float>(w, b)(x.view(), y.view());
  for (float const e : y.numbers) CHECK(e == 0.5f);
}

TEST_CASE_TEMPLATE("norm: heads of unit length, zeros stay zeros", T, float, double) {
  Random random(3);
  for (Index const size : {1, 8, 24, 64}) {
    Matrix<T> x(3, 2 * size, random);
    for (Index i = 0; i < size; ++i) x(1, i) = 0;
    Matrix<T> const before = x;
    normalize_heads(x.view(), size);
    for (Index t = 0; t < 3; ++t)
      for (Index h = 0; h < 2; ++h) {
        double square = 0, length = 0;
        for (Index i = h * size; i < (h + 1) * size; ++i) {
          square += std::pow(static_cast<double>(x(t, i)), 2);
          length += std::pow(static_cast<double>(before(t, i)), 2);
        }
        CHECK(square == doctest::Approx(t == 1 && h == 0 ? 0 : 1).epsilon(bound<T>));
        Index const i = h * size;
        if (length > 0)
          CHECK(static_cast<double>(x(t, i)) ==
                doctest::Approx(static_cast<double>(before(t, i)) / std::sqrt(length)).epsilon(bound<T>));
      }
  }
}

TEST_CASE("norm: shapes that do not fit are refused") {
  std::vector<float> const w(10), b(10), short_b(9);
  CHECK(test::message_of<std::invalid_argument>([&] { GroupNorm<float>(w, b, 3); }) ==
        "aviary: norm: 10 channels do not make 3 heads");
  CHECK(test::message_of<std::invalid_argument>([&] { LayerNorm<float>(w, short_b); }) ==
        "aviary: norm: bias is 9, expected 10");
}
