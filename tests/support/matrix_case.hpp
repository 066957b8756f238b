#pragma once
/// Random packed sequences through rules with every combination of traits, and what the reference makes of them.
#include <vector>

#include "aviary/matrix/memory.hpp"
#include "support/random.hpp"
#include "support/rule_case.hpp"

namespace aviary::test {

/// What a rule whose fields are the terms themselves is made of but for its fields.
template <Erase E, Read D> struct AnyTraits {
  static constexpr char const* name = "any";
  static constexpr Erase erase = E;
  static constexpr Read read = D;
  template <class Terms> AVIARY_HOST_DEVICE static constexpr Terms map(auto const& x) {
    if constexpr (E == Erase::none && D == Read::before)
      return {.r = x.r, .k = x.k, .v = x.v, .u = x.u};
    else if constexpr (E == Erase::none)
      return {.r = x.r, .k = x.k, .v = x.v};
    else if constexpr (E == Erase::along_key && D == Read::before)
      return {.r = x.r, .p = x.p, .k = x.k, .v = x.v, .u = x.u};
    else if constexpr (E == Erase::along_key)
      return {.r = x.r, .p = x.p, .k = x.k, .v = x.v};
    else if constexpr (D == Read::before)
      return {.r = x.r, .p = x.p, .q = x.q, .k = x.k, .v = x.v, .u = x.u};
    else
      return {.r = x.r, .p = x.p, .q = x.q, .k = x.k, .v = x.v};
  }
};

/// A rule with these traits. The decay is of every token or, with `constant`, of a head.
template <Gate G, Erase E, Read D, bool constant = false> struct AnyRule : AnyTraits<E, D> {
  static constexpr Axis decay =
      constant ? (G == Gate::vector ? Axis::head_key : Axis::head_one) : (G == Gate::vector ? Axis::key : Axis::one);
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> r;
    Per<decay> log_w;
    Per<Axis::key> p, q, k;
    Per<Axis::value> v;
    Per<Axis::head_key> u;
  };
};
template <Erase E, Read D, bool constant> struct AnyRule<Gate::none, E, D, constant> : AnyTraits<E, D> {
  template <template <Axis> class Per> struct Fields {
    Per<Axis::key> r, p, q, k;
    Per<Axis::value> v;
    Per<Axis::head_key> u;
  };
};

/// Inputs for AnyRule: probes of unit length that are written back nearly against themselves, so that no state explodes.
/// All numbers are there, whatever the traits use of them.
struct MatrixCase {
  Shape shape;
  Gate gate;
  Erase erase;
  bool constant;
  std::vector<float> r, log_w, p, q, k, v, u, state;  // state (sequences, heads, V, K)

  MatrixCase(std::uint64_t seed, Shape shape, Gate gate, Erase erase, bool constant, Decay decay);

  /// Under the names of the fields of rule R, which has the traits of the case.
  template <class R> RuleCase<R> of() const {
    auto const numbers = [](std::vector<float> const& x) { return std::vector<double>(x.begin(), x.end()); };
    if constexpr (gate_of<R> == Gate::none)
      return {shape,
              {.r = numbers(r), .p = numbers(p), .q = numbers(q), .k = numbers(k), .v = numbers(v), .u = numbers(u)},
              numbers(state)};
    else
      return {shape,
              {.r = numbers(r),
               .log_w = numbers(log_w),
               .p = numbers(p),
               .q = numbers(q),
               .k = numbers(k),
               .v = numbers(v),
               .u = numbers(u)},
              numbers(state)};
  }
};

/// The generic recurrence in double, head by head, of a rule that reads the state as told.
MatrixResult reference_result(MatrixCase const& c, Read read);

/// A case in the numbers of memory M.
template <class M> struct MatrixCall : RuleRun<M> {
  explicit MatrixCall(MatrixCase const& c) : RuleRun<M>(c.of<typename M::Rule>()) {}
};

/// f.operator()<G, E, D>() for all 18 combinations of traits.
template <class F> void for_each_combination(F&& f) {
  auto const reads = [&]<Gate G, Erase E>() {
    f.template operator()<G, E, Read::before>();
    f.template operator()<G, E, Read::after>();
  };
  auto const erases = [&]<Gate G>() {
    reads.template operator()<G, Erase::none>();
    reads.template operator()<G, Erase::along_key>();
    reads.template operator()<G, Erase::rank_one>();
  };
  erases.template operator()<Gate::none>();
  erases.template operator()<Gate::scalar>();
  erases.template operator()<Gate::vector>();
}

/// The same for 9 of them, or for the other 9, among which every two values of different traits meet.
template <bool others = false, class F> void for_each_pair_of_traits(F&& f) {
  for_each_combination([&]<Gate G, Erase E, Read D>() {
    if constexpr ((static_cast<int>(G) + static_cast<int>(E) + static_cast<int>(D)) % 2 == others)
      f.template operator()<G, E, D>();
  });
}

/// All combinations; with AVIARY_TEST_ONE_SIZE those that for_each_pair_of_traits leaves out.
template <class F> void for_each_combination_in_turn(F&& f) {
#if defined(AVIARY_TEST_ONE_SIZE)
  for_each_pair_of_traits<true>(f);
#else
  for_each_combination(f);
#endif
}

inline char const* name(Gate g) { return g == Gate::none ? "none" : g == Gate::scalar ? "scalar" : "vector"; }
inline char const* name(Erase e) {
  return e == Erase::none ? "none" : e == Erase::along_key ? "along_key" : "rank_one";
}
inline char const* name(Read r) { return r == Read::before ? "before" : "after"; }

}  // namespace aviary::test
