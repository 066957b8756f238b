/// Gradients of the elementwise functions: doubles against central differences of the functions written out, floats
/// against doubles within the errors stated, in numbers and in batches, and what they are at the ends of the range.
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "aviary/core/math.hpp"
#include "aviary/simd/pack.hpp"
#include "support/check.hpp"
#include "support/ulp.hpp"
#include "support/worst.hpp"

using namespace aviary;
using simd::Native;
using simd::Pack;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

/// What reaches the value in most tests: no power of two.
constexpr float dy = 0.7f;
constexpr double wide_dy = static_cast<double>(dy);

template <class P> using Value = typename Pack<P>::value_type;

/// f of a pack with x in every lane, its last lane.
template <class P, class F> auto of(F f) {
  return [f](Value<P> x) {
    Value<P> lanes[to_size(Pack<P>::lanes)];
    Pack<P>::store(lanes, f(P(x)));
    return lanes[Pack<P>::lanes - 1];
  };
}

double exact_sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
double exact_softplus(double x) { return std::max(x, 0.0) + std::log1p(std::exp(-std::abs(x))); }
/// sigmoid(x) sigmoid(-x)
double exact_slope(double x) { return exact_sigmoid(x) * exact_sigmoid(-x); }
double const exact_constant = -std::exp(-0.5);

/// The functions themselves, for differences.
using Long = long double;
Long plain_sigmoid(Long x) { return 1 / (1 + std::exp(-x)); }
Long plain_softplus(Long x) { return std::log(1 + std::exp(x)); }

/// Five points a step of h = 1e-3 apart leave out h^4 / 30 = 3e-14 times the fifth derivative, which is below 100 times
/// the larger of 1 and the first one; their rounding is 3e-13 times the function, even where a long double is a double.
constexpr double difference_bound = 1e-9;
template <class F> double difference(F const& f, double x) {
  constexpr Long h = 1e-3L;
  Long const at = static_cast<Long>(x);
  return static_cast<double>((8 * (f(at + h) - f(at - h)) - (f(at + 2 * h) - f(at - 2 * h))) / (12 * h));
}

/// The gradient, a function of x and dy, is that of `plain`.
template <class P, class Gradient, class Plain>
void check_derivative(char const* name, Gradient const& gradient, Plain const& plain) {
  test::Note const note("function", name);
  auto const with_dy = of<P>([&](P const& x) { return gradient(x, P(0.75)); });
  test::Worst worst;
  for (double x = -8.0625; x <= 8.1; x += 0.125) {  // never at 0, where squared_relu bends
    double const expected = 0.75 * difference(plain, x);
    worst.add(std::abs(with_dy(x) - expected) / std::max(1.0, std::abs(expected)));
  }
  test::check_that(worst <= difference_bound, "it is the derivative");
}

/// The largest error of f over floats in [low, high] as a part of what is allowed(x).
template <class F, class Exact, class Allowed>
double worst_part(float low, float high, F&& f, Exact&& exact, Allowed&& allowed) {
  test::Worst worst;
  constexpr int n = test::even_floats * 2 / 5;
  for (int i = 0; i <= n; ++i) {
    float const x = low + (high - low) * (static_cast<float>(i) / n);
    double const at = static_cast<double>(x);
    worst.add(std::abs(static_cast<double>(f(x)) - exact(at)) / allowed(at));
  }
  return worst;
}

/// One ulp of a number.
double ulp(double x) { return std::ldexp(1.0, std::ilogb(x) - 23); }

}  // namespace

TEST_CASE_TEMPLATE("math_gradients: they are the derivatives", P, double, Native<double>) {
  check_derivative<P>(
      "sigmoid", [](P const& x, P const& d) { return sigmoid_gradient(x, d); }, plain_sigmoid);
  check_derivative<P>(
      "sigmoid, of the value", [](P const& x, P const& d) { return sigmoid_gradient_of_value(sigmoid(x), d); },
      plain_sigmoid);
  check_derivative<P>(
      "tanh", [](P const& x, P const& d) { return tanh_gradient(x, d); }, [](Long x) { return std::tanh(x); });
  check_derivative<P>(
      "tanh, of the value", [](P const& x, P const& d) { return tanh_gradient_of_value(activation::tanh(x), d); },
      [](Long x) { return std::tanh(x); });
  check_derivative<P>(
      "silu", [](P const& x, P const& d) { return silu_gradient(x, d); }, [](Long x) { return x * plain_sigmoid(x); });
  check_derivative<P>(
      "softplus", [](P const& x, P const& d) { return softplus_gradient(x, d); }, plain_softplus);
  check_derivative<P>(
      "squared_relu", [](P const& x, P const& d) { return squared_relu_gradient(x, d); },
      [](Long x) { return x > 0 ? x * x : 0; });
  check_derivative<P>(
      "log_w_of_exponential, below 6",
      [](P const& x, P const& d) { return log_w_of_exponential_gradient(P(0.5) * x, P(0.5) * d); },
      [](Long x) { return -std::exp(x / 2); });
  check_derivative<P>(
      "log_w_of_exponential, of the value",
      [](P const& x, P const& d) {
        return log_w_of_exponential_gradient_of_value(log_w_of_exponential(P(0.5) * x), P(0.5) * d);
      },
      [](Long x) { return -std::exp(x / 2); });
  check_derivative<P>(
      "log_w_of_sigmoid", [](P const& x, P const& d) { return log_w_of_sigmoid_gradient(x, d); },
      [](Long x) { return -std::exp(-0.5L) * plain_sigmoid(x); });
  check_derivative<P>(
      "log_w_of_gla", [](P const& x, P const& d) { return log_w_of_gla_gradient(x, d); },
      [](Long x) { return -plain_softplus(-x) / 16; });
}

TEST_CASE_TEMPLATE("math_gradients: they are the derivatives in each of several arguments", P, double, Native<double>) {
  P const half(0.5), bias(-1.25), bound(-5.0);
  auto const plain = [](Long x, Long a_log, Long dt_bias) { return -std::exp(a_log) * plain_softplus(x + dt_bias); };
  check_derivative<P>(
      "softplus, x", [&](P const& x, P const& d) { return log_w_of_softplus_gradient(x, half, bias, d).x; },
      [&](Long x) { return plain(x, 0.5L, -1.25L); });
  check_derivative<P>(
      "softplus, a_log, below 6",
      [&](P const& x, P const& d) { return P(0.5) * log_w_of_softplus_gradient(half, P(0.5) * x, bias, d).a_log; },
      [&](Long x) { return plain(0.5L, x / 2, -1.25L); });
  check_derivative<P>(
      "softplus, dt_bias", [&](P const& x, P const& d) { return log_w_of_softplus_gradient(half, bias, x, d).dt_bias; },
      [&](Long x) { return plain(0.5L, -1.25L, x); });

  auto const bounded = [](Long x, Long a_log, Long dt_bias) {
    return -5 * plain_sigmoid(std::exp(a_log) * (x + dt_bias));
  };
  check_derivative<P>(
      "bounded, x",
      [&](P const& x, P const& d) { return log_w_of_bounded_sigmoid_gradient(x, half, bias, bound, d).x; },
      [&](Long x) { return bounded(x, 0.5L, -1.25L); });
  check_derivative<P>(
      "bounded, a_log",
      [&](P const& x, P const& d) {
        return P(0.125) * log_w_of_bounded_sigmoid_gradient(half, P(0.125) * x, bias, bound, d).a_log;
      },
      [&](Long x) { return bounded(0.5L, x / 8, -1.25L); });
  check_derivative<P>(
      "bounded, dt_bias",
      [&](P const& x, P const& d) { return log_w_of_bounded_sigmoid_gradient(half, bias, x, bound, d).dt_bias; },
      [&](Long x) { return bounded(0.5L, -1.25L, x); });
}

TEST_CASE_TEMPLATE("math_gradients: errors are as stated", P, float, Native<float>) {
  P const d(dy);
  CHECK(test::worst_ulps(-86, 86, of<P>([&](P const& x) { return sigmoid_gradient(x, d); }),
                         [](double x) { return wide_dy * exact_slope(x); }) <= 6);
  CHECK(test::worst_ulps(-43, 43, of<P>([&](P const& x) { return tanh_gradient(x, d); }),
                         [](double x) { return wide_dy * 4 * exact_slope(2 * x); }) <= 6);
  CHECK(test::worst_ulps(0, 1, of<P>([&](P const& y) { return sigmoid_gradient_of_value(y, d); }),
                         [](double y) { return wide_dy * y * (1 - y); }) <= 2);
  CHECK(test::worst_ulps(-1, 1, of<P>([&](P const& y) { return tanh_gradient_of_value(y, d); }),
                         [](double y) { return wide_dy * (1 - y) * (1 + y); }) <= 2);
  CHECK(test::worst_ulps(-86, 100, of<P>([&](P const& x) { return softplus_gradient(x, d); }),
                         [](double x) { return wide_dy * exact_sigmoid(x); }) <= 5);
  CHECK(test::worst_ulps(-10, 1000, of<P>([&](P const& x) { return squared_relu_gradient(x, d); }),
                         [](double x) { return wide_dy * 2 * std::max(x, 0.0); }) <= 1);
  CHECK(test::worst_ulps(-86, 4.4f, of<P>([&](P const& x) { return log_w_of_exponential_gradient(x, d); }),
                         [](double x) { return wide_dy * -std::exp(x); }) <= 3);
  CHECK(test::worst_ulps(-87, 0, of<P>([&](P const& y) { return log_w_of_exponential_gradient_of_value(y, d); }),
                         [](double y) { return wide_dy * y; }) <= 1);
  CHECK(test::worst_ulps(-86, 86, of<P>([&](P const& x) { return log_w_of_sigmoid_gradient(x, d); }),
                         [](double x) { return wide_dy * exact_constant * exact_slope(x); }) <= 7);
  CHECK(test::worst_ulps(-100, 83, of<P>([&](P const& x) { return log_w_of_gla_gradient(x, d); }),
                         [](double x) { return wide_dy * exact_sigmoid(-x) / 16; }) <= 5);
  CHECK(worst_part(
            -80, 80, of<P>([&](P const& x) { return silu_gradient(x, d); }),
            [](double x) { return wide_dy * (exact_sigmoid(x) + x * exact_slope(x)); },
            [](double x) { return 6 * ulp(wide_dy * (exact_sigmoid(x) + std::abs(x) * exact_slope(x))); }) <= 1);
}

TEST_CASE_TEMPLATE("math_gradients: errors of the decays with parameters are as stated", P, float, Native<float>) {
  P const d(dy);
  for (float const a_log : {-4.0f, 0.0f, 2.5f})
    for (float const dt_bias : {-3.0f, 0.0f, 1.5f}) {
      CAPTURE(a_log);
      CAPTURE(dt_bias);
      double const slope = std::exp(static_cast<double>(a_log)), bias = static_cast<double>(dt_bias);
      auto const softplus_of = [&](P const& x) { return log_w_of_softplus_gradient(x, P(a_log), P(dt_bias), d); };
      auto const x_exact = [&](double x) { return wide_dy * -slope * exact_sigmoid(x + bias); };
      auto const a_exact = [&](double x) { return wide_dy * -slope * exact_softplus(x + bias); };
      auto const more = [&](double x) { return std::max(-(x + bias), 0.0); };
      float const high = 80 / static_cast<float>(slope) - dt_bias;  // log_w = -80: w is a normal float
      CHECK(worst_part(-75, 80, of<P>([&](P const& x) { return softplus_of(x).x; }), x_exact,
                       [&](double x) { return (7 + more(x)) * ulp(x_exact(x)); }) <= 1);
      CHECK(worst_part(-75, high, of<P>([&](P const& x) { return softplus_of(x).a_log; }), a_exact,
                       [&](double x) { return (6 + more(x)) * ulp(a_exact(x)); }) <= 1);

      auto const bounded_of = [&](P const& x) {
        return log_w_of_bounded_sigmoid_gradient(x, P(a_log), P(dt_bias), P(-5.0f), d);
      };
      auto const z = [&](double x) { return slope * (x + bias); };
      auto const of_x = [&](double x) { return wide_dy * -5 * slope * exact_slope(z(x)); };
      auto const of_a = [&](double x) { return wide_dy * -5 * z(x) * exact_slope(z(x)); };
      auto const low = static_cast<float>(-70 / slope) - dt_bias;
      auto const allowed = [&](double x) { return 10 + 2 * std::abs(z(x)); };
      CHECK(worst_part(low, -low - 2 * dt_bias, of<P>([&](P const& x) { return bounded_of(x).x; }), of_x,
                       [&](double x) { return allowed(x) * ulp(of_x(x)); }) <= 1);
      CHECK(worst_part(low, -low - 2 * dt_bias, of<P>([&](P const& x) { return bounded_of(x).a_log; }), of_a,
                       [&](double x) { return allowed(x) * ulp(std::max(std::abs(of_a(x)), 1e-37)); }) <= 1);
    }
}

TEST_CASE_TEMPLATE("math_gradients: ends of the range", P, float, Native<float>) {
  P const one(1.0f);
  auto const of_sigmoid = of<P>([&](P const& x) { return sigmoid_gradient(x, one); });
  auto const of_tanh = of<P>([&](P const& x) { return tanh_gradient(x, one); });
  auto const of_silu = of<P>([&](P const& x) { return silu_gradient(x, one); });
  auto const of_softplus = of<P>([&](P const& x) { return softplus_gradient(x, one); });
  auto const of_gla = of<P>([&](P const& x) { return log_w_of_gla_gradient(x, one); });
  auto const of_squared_relu = of<P>([&](P const& x) { return squared_relu_gradient(x, one); });
  auto const of_wkv7 = of<P>([&](P const& x) { return log_w_of_sigmoid_gradient(x, one); });
  for (float const x : {100.0f, 2000.0f, 3e38f, infinity}) {
    CAPTURE(x);
    CHECK(std::abs(of_sigmoid(x)) <= std::numeric_limits<float>::min());
    CHECK(std::abs(of_sigmoid(-x)) <= std::numeric_limits<float>::min());
    CHECK(std::abs(of_wkv7(x)) <= std::numeric_limits<float>::min());
    CHECK(std::abs(of_wkv7(-x)) <= std::numeric_limits<float>::min());
    CHECK(of_tanh(x) == 0);
    CHECK(of_tanh(-x) == 0);
    CHECK(of_silu(x) == 1);
    CHECK(std::abs(of_silu(-x)) <= 1e-36f);
    CHECK(of_softplus(x) == 1);
    CHECK(std::abs(of_softplus(-x)) <= std::numeric_limits<float>::min());
    CHECK(std::abs(of_gla(x)) <= std::numeric_limits<float>::min());
    CHECK(of_gla(-x) == 0.0625f);
  }
  CHECK(of_squared_relu(-infinity) == 0);
  CHECK(of_squared_relu(1e30f) == 2e30f);
  CHECK(of_sigmoid(0.0f) == 0.25f);
  CHECK(of_tanh(0.0f) == 1);
  CHECK(of_silu(0.0f) == 0.5f);
  for (auto const value :
       {of_sigmoid(not_a_number), of_tanh(not_a_number), of_silu(not_a_number), of_softplus(not_a_number),
        of_gla(not_a_number), of_wkv7(not_a_number), of_squared_relu(not_a_number)})
    CHECK(std::isnan(value));
}

TEST_CASE_TEMPLATE("math_gradients: a token that forgets everything gets none through its decay", P, float,
                   Native<float>) {
  P const one(1.0f), zero(0.0f);
  for (float const x : {5.0f, 80.0f, 100.0f, 3e38f, infinity}) {  // w = exp(-exp(5)) is no normal float
    CAPTURE(x);
    CHECK(of<P>([&](P const& raw) { return log_w_of_exponential_gradient(raw, one); })(x) == 0);
    CHECK(of<P>([&](P const& raw) { return log_w_of_exponential_gradient_of_value(-raw - P(90.0f), one); })(x) == 0);
  }
  CHECK(of<P>([&](P const& raw) { return log_w_of_exponential_gradient(raw, one); })(-infinity) == 0);
  CHECK(std::isnan(of<P>([&](P const& raw) { return log_w_of_exponential_gradient(raw, one); })(not_a_number)));
  for (float const x : {100.0f, 3e38f, infinity}) {
    CAPTURE(x);
    CHECK(of<P>([&](P const& e) { return log_w_of_softplus_gradient(e, zero, zero, one).a_log; })(x) == 0);
    CHECK(of<P>([&](P const& e) { return log_w_of_softplus_gradient(e, zero, zero, zero).x; })(x) == 0);
    for (float const sign : {-1.0f, 1.0f}) {
      auto const part = [&](auto member) {
        return of<P>([&, member](P const& e) {
          return log_w_of_bounded_sigmoid_gradient(e, one, zero, P(-5.0f), one).*member;
        })(sign * x);
      };
      CHECK(part(&DecayGradients<P>::x) == 0);
      CHECK(part(&DecayGradients<P>::a_log) == 0);
      CHECK(part(&DecayGradients<P>::dt_bias) == 0);
    }
  }
  CHECK(of<P>([&](P const& e) { return log_w_of_softplus_gradient(e, zero, zero, one).a_log; })(-infinity) == 0);
}
