/// The way from what a layer computes to log_w, in numbers and in batches, against double within the errors stated.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "aviary/core/math.hpp"
#include "aviary/simd/pack.hpp"
#include "support/ulp.hpp"
#include "support/worst.hpp"

using namespace aviary;
using simd::Native;
using simd::Pack;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

/// f of a pack with x in every lane, its last lane.
template <class P, class F> auto of(F&& f) {
  return [f](float x) {
    float lanes[to_size(Pack<P>::lanes)];
    Pack<P>::store(lanes, f(P(x)));
    return lanes[Pack<P>::lanes - 1];
  };
}

double exact_softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }
double exact_sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

/// The largest error of f over floats in [low, high] as a part of the ulps allowed(x).
template <class F, class Exact, class Allowed>
double worst_part(float low, float high, F&& f, Exact&& exact, Allowed&& allowed) {
  test::Worst worst;
  constexpr int n = test::even_floats * 2 / 5;
  for (int i = 0; i <= n; ++i) {
    float const x = low + (high - low) * (static_cast<float>(i) / n);
    double const at = static_cast<double>(x);
    worst.add(test::ulps(f(x), exact(at)) / allowed(at));
  }
  return worst;
}

}  // namespace

TEST_CASE_TEMPLATE("math_decays: softplus", P, float, Native<float>) {
  auto const f = of<P>([](P const& x) { return softplus(x); });
  CHECK(test::worst_ulps(-86, 100, f, exact_softplus) <= 3);
  CHECK(f(100) == 100);
  CHECK(f(3e38f) == 3e38f);
  CHECK(f(infinity) == infinity);
  CHECK(std::abs(f(-100)) <= std::numeric_limits<float>::min());
  CHECK(f(-3e38f) == 0);
  CHECK(f(-infinity) == 0);
  CHECK(std::isnan(f(std::numeric_limits<float>::quiet_NaN())));
}

TEST_CASE_TEMPLATE("math_decays: GLA", P, float, Native<float>) {
  auto const f = of<P>([](P const& x) { return log_w_of_gla(x); });
  CHECK(test::worst_ulps(-100, 86, f, [](double x) { return -exact_softplus(-x) / 16; }) <= 3);
  CHECK(f(-100) == -6.25f);
  CHECK(f(-infinity) == -infinity);  // forgets everything
  CHECK(f(infinity) == 0);           // forgets nothing
  for (float x = -200; x <= 200; x += 0.25f) CHECK(f(x) <= 0);
}

TEST_CASE_TEMPLATE("math_decays: softplus with the layer's parameters", P, float, Native<float>) {
  for (float const a_log : {-4.0f, 0.0f, 2.5f})
    for (float const dt_bias : {-3.0f, 0.0f, 1.5f}) {
      CAPTURE(a_log);
      CAPTURE(dt_bias);
      auto const f = of<P>([&](P const& x) { return log_w_of_softplus(x, P(a_log), P(dt_bias)); });
      auto const z = [&](double x) { return x + static_cast<double>(dt_bias); };
      CHECK(worst_part(
                -80, 80, f, [&](double x) { return -std::exp(static_cast<double>(a_log)) * exact_softplus(z(x)); },
                [&](double x) { return 4 + std::max(-z(x), 0.0); }) <= 1);
      CHECK(f(-infinity) == 0);
      CHECK(f(infinity) == -infinity);
    }
}

TEST_CASE_TEMPLATE("math_decays: bounded sigmoid", P, float, Native<float>) {
  for (float const a_log : {-4.0f, 0.0f, 2.5f})
    for (float const dt_bias : {-3.0f, 0.0f, 1.5f}) {
      CAPTURE(a_log);
      CAPTURE(dt_bias);
      auto const f = of<P>([&](P const& x) { return log_w_of_bounded_sigmoid(x, P(a_log), P(dt_bias), P(-5.0f)); });
      double const slope = std::exp(static_cast<double>(a_log));
      auto const z = [&](double x) { return slope * (x + static_cast<double>(dt_bias)); };
      float const low = static_cast<float>(-80 / slope) - dt_bias;  // z = -80: sigmoid is a normal float
      CHECK(worst_part(
                low, -low, f, [&](double x) { return -5 * exact_sigmoid(z(x)); },
                [&](double x) { return 4 + 2 * std::max(-z(x), 0.0); }) <= 1);
      CHECK(f(-infinity) == 0);
      CHECK(f(infinity) == -5);
    }
}

TEST_CASE("math_decays: RetNet has a decay of each head") {
  for (Index head = 0; head < 40; ++head) {
    CAPTURE(head);
    long double const exact = std::log(1 - std::exp2(-5.0L - static_cast<long double>(head)));
    CHECK(log_w_of_retnet(head) == doctest::Approx(static_cast<double>(exact)).epsilon(head < 10 ? 1e-14 : 1e-6));
    CHECK(log_w_of_retnet(head) < 0);
  }
  CHECK(std::exp(log_w_of_retnet(0)) == doctest::Approx(31.0 / 32).epsilon(1e-15));
  CHECK(std::exp(log_w_of_retnet(3)) == doctest::Approx(255.0 / 256).epsilon(1e-15));
}

TEST_CASE("math_decays: a query's scale") {
  CHECK(query_scale(1) == 1);
  CHECK(query_scale(64) == 0.125);
  CHECK(query_scale(128) == doctest::Approx(0.08838834764831845).epsilon(1e-15));
}
