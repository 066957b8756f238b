#include "aviary/layers/rotary.hpp"

#include <doctest/doctest.h>

#include <complex>
#include <numbers>

#include "support/compare.hpp"
#include "support/layer_case.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::Matrix;
using test::Random;

TEST_CASE_TEMPLATE("rotary: pairs of numbers turn as complex numbers do", T, float, double) {
  Random random(1);
  Matrix<T> const x(4, 24, random);
  Matrix<T> y = x;
  Rotary const rotary(8, 100);
  CHECK(rotary.head_size() == 8);
  rotary(y.view(), 9);
  std::vector<double> expected;
  for (Index t = 0; t < 4; ++t)
    for (Index i = 0; i < 24; i += 2) {
      double const angle = static_cast<double>(9 + t) * std::pow(100.0, -static_cast<double>(i % 8) / 8);
      auto const turned = std::complex<double>(x(t, i), x(t, i + 1)) * std::polar(1.0, angle);
      expected.push_back(turned.real());
      expected.push_back(turned.imag());
    }
  CHECK(test::max_error(y.numbers, expected) <= (std::is_same_v<T, float> ? 5e-7 : 1e-15));
}

TEST_CASE("rotary: products depend on how far apart the positions are, at those of 2^31 tokens, too") {
  Random random(2);
  Matrix<double> const q(1, 16, random), k(1, 16, random);
  Rotary const rotary(16);
  auto const product = [&](Index at, Index before) {
    Matrix<double> a = q, b = k;
    rotary(a.view(), at);
    rotary(b.view(), at - before);
    double sum = 0;
    for (std::size_t i = 0; i < 16; ++i) sum += a.numbers[i] * b.numbers[i];
    return sum;
  };
  CHECK(std::abs(product(1000, 7) - product(7, 7)) <= 1e-12);
  CHECK(std::abs(product((Index{1} << 31) + 5, 7) - product(7, 7)) <= 1e-5);
  CHECK(std::abs(product(1000, 8) - product(7, 7)) > 1e-2);
}

TEST_CASE("rotary: an odd head size and an impossible base are refused") {
  CHECK(test::message_of<std::invalid_argument>([] { Rotary(7); }) ==
        "aviary: Rotary: the head size is 7, expected an even number");
  CHECK(test::message_of<std::invalid_argument>([] { Rotary(8, -1); }) ==
        "aviary: Rotary: the base is -1.000000, expected above 0");
}
