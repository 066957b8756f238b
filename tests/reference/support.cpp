/// What every other test leans on: the measures of error, and the seeded inputs.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <sstream>
#include <vector>

#include "support/compare.hpp"
#include "support/random.hpp"
#include "support/ulp.hpp"
#include "support/worst.hpp"

namespace {

using namespace aviary;
using test::Decay;
using test::l2_error;
using test::max_error;
using Numbers = std::vector<double>;

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN(),
                 infinity = std::numeric_limits<double>::infinity();

std::string text(test::Error const& error) {
  std::ostringstream out;
  out << error;
  return out.str();
}

}  // namespace

TEST_CASE("compare: errors are relative to the largest number, or to the length") {
  Numbers const expected{0, -4, 3}, x{0.5, -4, 3};
  CHECK(max_error(x, expected).value == 0.125);
  CHECK(l2_error(x, expected).value == 0.1);
  CHECK(max_error(x, expected) <= 0.125);
  CHECK_FALSE(max_error(x, expected) <= 0.124);
  CHECK(text(max_error(x, expected)) == "0.125 (at 0: 0.5, expected 0)");
  CHECK(max_error(std::vector<float>{0, -4, 3}, expected).value == 0);
  CHECK(max_error(Numbers{0.25}, Numbers{0}).value == 0.25);
}

TEST_CASE("compare: NaN, a wrong infinity and a wrong size are in no bound") {
  Numbers const expected{1, 2, 3};
  for (Numbers const& x : {Numbers{1, not_a_number, 3}, Numbers{not_a_number, 2, 7}, Numbers{1, 2, not_a_number},
                           Numbers{1, infinity, 3}, Numbers{1, 2}, Numbers{1, 2, 3, 4}, Numbers{}}) {
    CHECK_FALSE(max_error(x, expected) <= 1e300);
    CHECK_FALSE(l2_error(x, expected) <= 1e300);
  }
  CHECK_FALSE(max_error(Numbers{1, 2}, Numbers{1, not_a_number}) <= 1e300);
  CHECK_FALSE(max_error(Numbers{1, 2}, Numbers{1, infinity}) <= 1e300);
  CHECK_FALSE(max_error(Numbers{-infinity, 2}, Numbers{infinity, 2}) <= 1e300);
  CHECK(max_error(Numbers{infinity, 2}, Numbers{infinity, 2}) <= 0);
  CHECK(text(max_error(Numbers{1, 2}, expected)) == "2 numbers, expected 3");
}

TEST_CASE("compare: nothing agrees with nothing") {
  Numbers const none;
  CHECK_FALSE(max_error(none, none) <= 1e300);
  CHECK_FALSE(l2_error(none, none) <= 1e300);
  CHECK(text(max_error(none, none)) == "0 numbers, and none to compare them with");
}

TEST_CASE("worst: the largest error, NaN once one is NaN, and NaN of none") {
  auto const worst_of = [](Numbers const& errors) {
    test::Worst worst;
    for (double const error : errors) worst.add(error);
    return static_cast<double>(worst);
  };
  CHECK(worst_of({0}) == 0);
  CHECK(worst_of({1, 3, 2}) == 3);
  CHECK(worst_of({1, infinity, 2}) == infinity);
  for (Numbers const& errors :
       {Numbers{}, Numbers{not_a_number}, Numbers{not_a_number, 1}, Numbers{1, not_a_number, 2}})
    CHECK_FALSE(worst_of(errors) <= infinity);
  // What it is for: one wrong number among a million.
  auto const exact = [](double x) { return x; };
  CHECK(test::worst_ulps(
            -1, 1, [](float x) { return x; }, exact) == 0);
  CHECK_FALSE(test::worst_ulps(
                  -1, 1, [](float x) { return x > 0.5f && x < 0.501f ? NAN : x; }, exact) <= 1e300);
}

TEST_CASE("random: a seed gives the same numbers in every type, and all are floats") {
  auto const in_float = test::Random(7).normals<float>(100);
  auto const in_double = test::Random(7).normals<double>(100);
  CHECK(std::equal(in_float.begin(), in_float.end(), in_double.begin(),
                   [](float a, double b) { return static_cast<double>(a) <= b && static_cast<double>(a) >= b; }));
  CHECK(test::Random(8).normals<double>(100) != in_double);
}

TEST_CASE("random: inputs are what models make") {
  test::Random random(3);
  auto const normal = random.normals<double>(10000);
  double sum = 0, square = 0;
  for (double const e : normal) {
    sum += e;
    square += e * e;
  }
  CHECK(std::abs(sum / 1e4) < 0.05);
  CHECK(std::abs(square / 1e4 - 1) < 0.1);

  for (double const a : random.rates<double>(1000)) CHECK((0 < a && a < 1));
  auto const units = random.units<double>(10, 64);
  for (auto row = units.begin(); row != units.end(); row += 64) {
    double length = 0;
    std::for_each(row, row + 64, [&](double e) { length += e * e; });
    CHECK(std::abs(length - 1) < 1e-6);
  }
}

TEST_CASE("random: decays keep to their range") {
  auto const range = [](Decay decay) {
    auto const x = test::Random(5).log_decays<double>(1000, decay);
    auto const [low, high] = std::minmax_element(x.begin(), x.end());
    return std::pair(*low, *high);
  };
  CHECK(range(Decay::none) == std::pair(0.0, 0.0));
  CHECK(range(Decay::slow).first >= -2.5001e-3);
  CHECK(range(Decay::slow).second <= -0.9999e-4);
  CHECK(range(Decay::wkv7).first > -0.607);
  CHECK(range(Decay::wkv7).second < 0);
  CHECK(range(Decay::wide).first < -100);
  CHECK(range(Decay::wide).second < 0);
  CHECK(range(Decay::wide).second > -1e-2);
  CHECK(range(Decay::extremes) == std::pair(-infinity, 0.0));
}
