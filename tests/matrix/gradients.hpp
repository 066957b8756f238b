#pragma once
/// Gradients of all 18 combinations of traits, fixed and dynamic sizes, every instruction set of the build, against those of
/// the reference.
#include "matrix/combinations.hpp"
#include "support/gradient_case.hpp"

namespace aviary::test {

/// Every way to keep something for backward, in turn. 64 tokens are more than any sequence has.
inline Keep keep_in_turn(int turn, bool erases) {
  constexpr Index every[]{16, 5, 64, 1};
  return {.every = every[turn % 4], .readings = erases && turn / 4 % 2 == 0};
}

/// Against central differences of the reference, without its gradients. They show the same in every build: those with one size
/// have none.
template <class R, class F>
void check_differences_of_reference([[maybe_unused]] Index keys, [[maybe_unused]] Index values,
                                    [[maybe_unused]] F&& gradients) {
#if !defined(AVIARY_TEST_ONE_SIZE)
  auto const c = gradient_case<R>(keys, values, {0, 0, 1, 12});
  check_differences(c, gradients(c), [](RuleCase<R> const& x) { return reference_result(x); });
#endif
}

/// backward with packs P, in one of the ways to keep something.
template <class M, class P>
void check_against_reference(GradientCase<typename M::Rule> const& c, GradientResult<typename M::Rule> const& expected,
                             Keep keep) {
  Note const every("tape.every", keep.every), readings("readings", keep.readings);
  GradientRun<M> run(c, keep);
  run.forward().template backward<P>();
  check_gradients(run.result(), expected, matrix_bound<typename M::T>);
}

/// Whether packs P meet a combination. Of the narrower instruction sets each meets it in one of two kinds. With
/// AVIARY_TEST_ONE_SIZE there is the build's own alone, and every second combination in either type.
template <class P, bool constant> constexpr bool gradients_are_met(Kind kind, Gate g, Erase e, Read d) {
  constexpr bool native = std::is_same_v<P, simd::Native<typename simd::Pack<P>::value_type>>;
#if defined(AVIARY_TEST_ONE_SIZE)
  int const combination = static_cast<int>(g) + static_cast<int>(e) + static_cast<int>(d);
  return native && combination % 2 == (kind == Kind::float_fixed);
#else
  if (constant) return is_met_with_constant<P>(g, e, d);
  return is_met<P>(kind, g, e, d) && (native || kind == Kind::float_fixed || kind == Kind::double_dynamic);
#endif
}

/// Sequences as in check_all_combinations. In double every combination meets the central differences in one size, in float those
/// with constant decays do as the reference has them.
template <class T, Index K, Index V, Kind kind, bool constant = false>
void check_all_gradients(Index keys, Index values) {
  int turn = 0;
  for_each_combination([&]<Gate G, Erase E, Read D>() {
    if constexpr (!constant || G != Gate::none) {
      using R = AnyRule<G, E, D, constant>;
      using M = MatrixMemory<R, T, K, V>;
      constexpr bool erases = E != Erase::none;
      Note const gate("gate", name(G)), erase("erase", name(E)), read("read", name(D));
      auto const c = gradient_case<R>(keys, values, {0, 0, 1, 4, 10, 54});
      GradientResult<R> const expected = reference_gradients(c);
      if constexpr (constant) check_differences_of_reference<R>(keys, values, reference_gradients<R>);
      simd::for_each_instruction_set<T>([&]<class P>(simd::InstructionSet<P> set) {
        if constexpr (gradients_are_met<P, constant>(kind, G, E, D)) {
          Note const note("instruction set", set.name);
          constexpr bool native = std::is_same_v<P, simd::Native<T>>;
          for (int ways = native ? 8 : 1; ways > 0; --ways)
            check_against_reference<M, P>(c, expected, keep_in_turn(++turn, erases));
          if constexpr (native && std::is_same_v<T, double>)
            check_differences_of_reference<R>(keys, values, [](auto const& few) { return gradients_of<M>(few); });
        }
      });
    }
  });
}

}  // namespace aviary::test
