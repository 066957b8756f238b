/// Learning rates at the corners of their curves.
#include "aviary/training/schedule.hpp"

#include <doctest/doctest.h>

using namespace aviary;
using doctest::Approx;

TEST_CASE("schedule: it warms up along a line") {
  Schedule const rate{.peak = 4, .steps = 110, .floor = 1, .warm_up = 10};
  CHECK(rate(0) == Approx(0.04));
  CHECK(rate(5) == Approx(4 * (0.01 + 0.99 / 2)));
  CHECK(rate(9) < rate(10));
  CHECK(rate(10) == 4);
  CHECK(Schedule{.peak = 4, .steps = 110, .warm_up = 10, .start = 0}(0) == 0);
}

TEST_CASE("schedule: then it falls to a floor, and stays there") {
  Schedule rate{.peak = 4, .steps = 110, .floor = 1, .warm_up = 10};
  CHECK(rate(60) == Approx(2.5));
  CHECK(rate(35) == Approx(1 + 3 * (1 + std::sqrt(0.5)) / 2));
  for (Index step = 10; step < 110; ++step) CHECK(rate(step + 1) < rate(step));
  CHECK(rate(110) == 1);
  CHECK(rate(111) == 1);
  CHECK(rate(1000000) == 1);

  rate.curve = RateCurve::linear;
  CHECK(rate(10) == 4);
  CHECK(rate(35) == Approx(3.25));
  CHECK(rate(60) == Approx(2.5));
  CHECK(rate(110) == 1);
  CHECK(rate(1000000) == 1);

  rate.curve = RateCurve::constant;
  CHECK(rate(5) == Approx(4 * (0.01 + 0.99 / 2)));
  CHECK(rate(10) == 4);
  CHECK(rate(1000000) == 4);
}

TEST_CASE("schedule: without warm-up, without anything after it, without steps") {
  Schedule rate{.peak = 4, .steps = 10};
  CHECK(rate(0) == 4);
  CHECK(rate(5) == Approx(2));
  CHECK(rate(10) == 0);
  for (Index const warm_up : {10, 20}) {
    rate.warm_up = warm_up;
    CHECK(rate(9) == Approx(4 * (0.01 + 0.99 * 9 / static_cast<double>(warm_up))));
    CHECK(rate(warm_up) == 0);
  }
  CHECK(Schedule{.peak = 4, .steps = 0, .floor = 3}(0) == 3);
}
