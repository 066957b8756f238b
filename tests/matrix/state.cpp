#include "aviary/matrix/state.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include "aviary/wkv7.hpp"

using namespace aviary;

// The layout is the same in every translation unit, whatever its instruction set.
static_assert(std::is_trivially_copyable_v<State<float, 64, 64>> && std::is_aggregate_v<State<float, 64, 64>>);
static_assert(sizeof(State<float, 64, 64>) == 64 * 64 * 4 && alignof(State<float, 64, 64>) == 64);
static_assert(sizeof(State<float, 3, 5>) == 3 * 64 && sizeof(State<double, 3, 9>) == 3 * 128);
static_assert(std::regular<State<float, 64, 64>> && std::regular<State<float, dynamic, dynamic>>);
static_assert(sizeof(VecView<float, 64>) == sizeof(float*));

// step is noexcept, the conversions of its arguments included.
using M = Wkv7<float, 64>;
static_assert(noexcept(M::step(std::declval<M::State&>(), std::declval<M::Token const&>(),
                               std::declval<std::vector<float>&>())));
static_assert(noexcept(M::Token{.r = std::declval<std::vector<float>&>(),
                                .log_w = std::declval<std::vector<float>&>(),
                                .k = std::declval<std::vector<float>&>(),
                                .v = std::declval<std::vector<float>&>(),
                                .kappa_hat = std::declval<std::vector<float>&>(),
                                .a = std::declval<std::vector<float>&>()}));

TEST_CASE("state: fixed and dynamic sizes lie in the same layout") {
  State<float, 3, 20> fixed{};
  State<float, dynamic, dynamic> dynamic_size{3, 20};
  CHECK(fixed.view().stride() == 32);
  CHECK(dynamic_size.view().stride() == 32);
  CHECK(dynamic_size.keys() == 3);
  CHECK(dynamic_size.values() == 20);
  CHECK(reinterpret_cast<std::uintptr_t>(dynamic_size.view()[0]) % 64 == 0);
  for (Index j = 0; j < 3; ++j)
    for (Index i = 0; i < 20; ++i) {
      CHECK(dynamic_size.view()(j, i) == 0);
      fixed.view()(j, i) = static_cast<float>(100 * j + i);
      dynamic_size.view()(j, i) = fixed.s[j][i];
    }
  for (Index at = 0; at < 3 * 32; ++at) CHECK(fixed.view().s[at] == dynamic_size.view().s[at]);
}

TEST_CASE("state: is a value") {
  State<double, dynamic, 4> a{5, 4}, b = a;
  CHECK(a == b);
  b.view()(4, 3) = 1;
  CHECK(a != b);
  a = b;
  CHECK(a == b);
  CHECK(a != State<double, dynamic, 4>{4, 4});
  State<float, 2, 2> c{}, d{};
  CHECK(c == d);
  d.s[1][1] = 2;
  CHECK(c != d);
}
