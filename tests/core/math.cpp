/// Elementwise functions against double, within the errors that they state; those of SIMD batches are in tests/simd.
#include "aviary/core/math.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "support/ulp.hpp"

using namespace aviary;

namespace {
double exact_sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
}  // namespace

TEST_CASE("math: errors are as stated") {
  CHECK(test::worst_ulps(
            -87, 100, [](float x) { return sigmoid(x); }, exact_sigmoid) <= 4);
  CHECK(test::worst_ulps(
            -80, 100, [](float x) { return silu(x); }, [](double x) { return x * exact_sigmoid(x); }) <= 5);
  CHECK(test::worst_ulps(
            -80, 80, [](float x) { return log_w_of_exponential(x); }, [](double x) { return -std::exp(x); }) <= 2);
  CHECK(test::worst_ulps(
            -80, 80, [](float x) { return log_w_of_sigmoid(x); },
            [](double x) { return -std::exp(-0.5) * exact_sigmoid(x); }) <= 5);
  CHECK(test::worst_ulps(
            -10, 1000, [](float x) { return squared_relu(x); }, [](double x) { return x > 0 ? x * x : 0; }) <= 1);
}

TEST_CASE("math: ends of the range") {
  constexpr float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  CHECK(sigmoid(-200.0f) == 0.0f);
  CHECK(sigmoid(-infinity) == 0.0f);
  CHECK(sigmoid(200.0f) == 1.0f);
  CHECK(sigmoid(infinity) == 1.0f);
  CHECK(log_w_of_exponential(-infinity) == 0.0f);
  CHECK(log_w_of_exponential(200.0f) == -infinity);  // forgets everything
  CHECK(squared_relu(-1e30f) == 0.0f);
  CHECK(std::isnan(sigmoid(nan)));
  CHECK(std::isnan(squared_relu(nan)));
}

TEST_CASE("math: WKV-7's decay is the one of its paper") {
  for (double w_raw = -20; w_raw <= 20; w_raw += 0.125) {
    double const softplus = std::log1p(std::exp(-w_raw));
    CHECK(log_w_of_sigmoid(w_raw) == doctest::Approx(-std::exp(-softplus - 0.5)).epsilon(1e-14));
  }
}
