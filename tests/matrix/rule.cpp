#include "aviary/matrix/rule.hpp"

#include <doctest/doctest.h>

#include <concepts>

#include "aviary/wkv7.hpp"
#include "support/matrix_case.hpp"

using namespace aviary;
using lane::Absent;

// A lane of the other axis swallows products, and leaves sums as they are.
static_assert(std::same_as<decltype(Absent{} * 2.f), Absent> && std::same_as<decltype(2.f * Absent{}), Absent>);
static_assert(std::same_as<decltype(Absent{} + 2.f), float> && std::same_as<decltype(2.f - Absent{}), float>);
static_assert(2.f + Absent{} == 2.f && Absent{} - 2.f == -2.f);

// So the product of a key and a value, Absent in both lanes, is no term; nor is a term that is left out.
static_assert(!std::is_convertible_v<Absent, Required<float>> && !std::is_default_constructible_v<Required<float>>);

// The gate follows from the axis of log_w.
using test::AnyRule;
static_assert(gate_of<Wkv7Rule> == Gate::vector);
static_assert(gate_of<AnyRule<Gate::none, Erase::none, Read::after>> == Gate::none);
static_assert(gate_of<AnyRule<Gate::scalar, Erase::none, Read::after>> == Gate::scalar);
static_assert(gate_of<AnyRule<Gate::scalar, Erase::none, Read::after, true>> == Gate::scalar);
static_assert(gate_of<AnyRule<Gate::vector, Erase::none, Read::after, true>> == Gate::vector);

// Concepts of a rule.
struct Nothing {};
struct AlongValues {
  static constexpr char const* name = "along values";
  static constexpr Erase erase = Erase::none;
  static constexpr Read read = Read::after;
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> r, k;
    Per<Axis::value> v, log_w;
  };
};
static_assert(HasName<Wkv7Rule> && HasTraits<Wkv7Rule> && HasFields<Wkv7Rule> && HasProperDecay<Wkv7Rule>);
static_assert(!HasName<Nothing> && !HasTraits<Nothing> && !HasFields<Nothing>);
static_assert(HasName<AlongValues> && HasTraits<AlongValues> && HasFields<AlongValues> && !HasProperDecay<AlongValues>);

TEST_CASE("rule: fields are counted and visited in order, each with its axis") {
  CHECK(detail::field_count<Wkv7Rule> == 6);
  std::vector<Axis> axes;
  detail::for_each_field<Wkv7Rule>(detail::Axes<Wkv7Rule>{}, [&](auto axis, auto) { axes.push_back(axis()); });
  CHECK(axes == std::vector<Axis>{Axis::key, Axis::key, Axis::key, Axis::value, Axis::key, Axis::key});
}

TEST_CASE("rule: only the decay of a whole head is constant") {
  CHECK(!constant_decay<Wkv7Rule>);
  CHECK(!constant_decay<AnyRule<Gate::none, Erase::none, Read::after, true>>);
  CHECK(constant_decay<AnyRule<Gate::scalar, Erase::none, Read::after, true>>);
  CHECK(constant_decay<AnyRule<Gate::vector, Erase::rank_one, Read::before, true>>);
}
