#include "aviary/matrix/state.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "aviary/wkv7.hpp"

using namespace aviary;

// The layout is the same in every translation unit, whatever its instruction set.
static_assert(std::is_trivially_copyable_v<State<float, 64, 64>>);
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

namespace {

/// A state whose numbers name their places, exactly in every storage type.
template <class S> S numbered(S state) {
  using T = std::remove_reference_t<decltype(state.view()(0, 0))>;
  for (Index j = 0; j < state.keys(); ++j)
    for (Index i = 0; i < state.values(); ++i) state.view()(j, i) = narrow<T>(static_cast<float>(20 * j + i));
  return state;
}
template <class S> S filled_with_garbage() {
  S state;
  std::memset(static_cast<void*>(&state), 0x7b, sizeof(state));
  return state;
}

}  // namespace

TEST_CASE_TEMPLATE("state: comes from and goes to both orientations of every storage type", U, float, double, bf16,
                   f16) {
  auto const both_ways = [](auto state) {
    Index const keys = state.keys(), values = state.values();
    auto const expected = numbered(state);
    std::vector<U> by_key, by_value;
    for (Index j = 0; j < keys; ++j)
      for (Index i = 0; i < values; ++i) by_key.push_back(narrow<U>(static_cast<float>(20 * j + i)));
    for (Index i = 0; i < values; ++i)
      for (Index j = 0; j < keys; ++j) by_value.push_back(narrow<U>(static_cast<float>(20 * j + i)));

    auto from_key = state, from_value = state;
    import_state(from_key.view(), by_key, Orientation::key_value);
    import_state(from_value.view(), std::span<U const>(by_value), Orientation::value_key);
    CHECK(from_key == expected);
    CHECK(from_value == expected);

    std::vector<U> back(by_key.size() + 2, U{});
    auto const inner = std::span(back).subspan(1, by_key.size());
    export_state(expected.view(), inner, Orientation::key_value);
    CHECK(std::ranges::equal(inner, by_key));
    export_state(expected.view(), inner, Orientation::value_key);
    CHECK(std::ranges::equal(inner, by_value));
    CHECK(back.front() == U{});
    CHECK(back.back() == U{});
  };
  both_ways(State<float, 3, 20>{});
  both_ways(State<double, 5, 1>{});
  both_ways(State<bf16, 2, 18>{});
  both_ways(State<f16, 1, 3>{});
  both_ways(State<float, dynamic, dynamic>{4, 17});
}

TEST_CASE("state: import writes the padding, so that a state with garbage becomes a state") {
  std::vector<float> const numbers(3 * 5, 1.5f);
  for (Orientation const orientation : {Orientation::key_value, Orientation::value_key}) {
    auto state = filled_with_garbage<State<float, 3, 5>>();
    import_state(state.view(), numbers, orientation);
    State<float, 3, 5> expected{};
    for (auto& row : expected.s) std::fill(row, row + 5, 1.5f);
    CHECK(state == expected);
  }
}

TEST_CASE("state: a state goes through its own type without a changed bit, those of NaN too") {
  std::vector<bf16> numbers;
  for (unsigned bits = 0x7f70; bits < 0x7f70 + 6 * 8; ++bits) numbers.push_back({static_cast<std::uint16_t>(bits)});
  for (Orientation const orientation : {Orientation::key_value, Orientation::value_key}) {
    State<bf16, 6, 8> state{};
    import_state(state.view(), numbers, orientation);
    std::vector<bf16> back(numbers.size());
    export_state(state.view(), back, orientation);
    CHECK(back == numbers);
  }
}

TEST_CASE("state: the orientations are those of the formulas") {
  // S = v k^T of one token: row v, column k in [value][key].
  using Small = Wkv7<float, 2, 3>;
  Small::State state{};
  std::array<float, 2> const k{1, 10}, zero{0, 0};
  std::array<float, 3> const v{2, 3, 4};
  std::array<float, 3> y;
  Small::step(state, {.r = zero, .log_w = zero, .k = k, .v = v, .kappa_hat = zero, .a = zero}, y);
  std::array<float, 6> s;
  export_state(state.view(), s, Orientation::value_key);
  CHECK(s == std::array<float, 6>{2, 20, 3, 30, 4, 40});
  export_state(state.view(), s, Orientation::key_value);
  CHECK(s == std::array<float, 6>{2, 3, 4, 20, 30, 40});
}
