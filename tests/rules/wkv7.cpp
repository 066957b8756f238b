#include "aviary/wkv7.hpp"

#include <array>

#include "rules/check_model.hpp"

using namespace aviary;
using namespace aviary::test;

TEST_CASE("wkv7: forward, step and backward agree with the reference") { check_model<Wkv7Model>(); }

TEST_CASE("wkv7: a zero removal key removes nothing") {
  using M = Wkv7<double, 4>;
  std::array<double, 4> const r{1, 2, 3, 4}, none{}, k{1, 0, 0, 0}, v{1, -1, 2, 0}, a{1, 1, 1, 1};
  M::State state{};
  std::array<double, 4> y{};
  for (int i = 0; i < 3; ++i) M::step(state, {.r = r, .log_w = none, .k = k, .v = v, .kappa_hat = none, .a = a}, y);
  for (Index i = 0; i < 4; ++i) {
    CHECK(state.s[0][i] == 3 * v[to_size(i)]);
    CHECK(y[to_size(i)] == 3 * v[to_size(i)]);
  }
}
