#pragma once
/// Gradients of all 18 combinations of traits, fixed and dynamic sizes, every instruction set of the build, against those of
/// the reference. What meets what is as in combinations.hpp.
#include "matrix/combinations.hpp"
#include "support/gradient_case.hpp"

namespace aviary::test {

/// Every way to keep something for backward, in turn. 64 tokens are more than any sequence has.
inline Keep keep_in_turn(int turn, bool erases) {
  constexpr Index every[]{16, 5, 64, 1};
  return {.every = every[turn % 4], .readings = erases && turn / 4 % 2 == 0};
}

/// Sequences as in check_all_combinations, with r, p, q and k shared by two of the four value heads.
template <Gate G, Erase E, Read D, bool constant>
GradientCase<AnyRule<G, E, D, constant>> gradient_case(Index keys, Index values, Decay decay) {
  using R = AnyRule<G, E, D, constant>;
  MatrixCase const c(23, {keys, values, 4, {0, 0, 1, 4, 10, 54}}, G, E, constant, decay);
  return with_gradients(31, with_shared_keys(c.of<R>(), 2));
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

template <class T, Index K, Index V, Kind kind, bool constant = false>
void check_all_gradients(Index keys, Index values) {
  int turn = 0;
  for_each_combination([&]<Gate G, Erase E, Read D>() {
    if constexpr (!constant || G != Gate::none) {
      using R = AnyRule<G, E, D, constant>;
      using M = MatrixMemory<R, T, K, V>;
      Note const gate("gate", name(G)), erase("erase", name(E)), read("read", name(D));
      auto const c = gradient_case<G, E, D, constant>(keys, values, constant ? Decay::slow : Decay::wkv7);
      GradientResult<R> const expected = reference_gradients(c);
      simd::for_each_instruction_set<T>([&]<class P>(simd::InstructionSet<P> set) {
        if constexpr (constant ? is_met_with_constant<P>(G, E, D) : is_met<P>(kind, G, E, D)) {
          Note const note("instruction set", set.name);
          if constexpr (std::is_same_v<P, simd::Native<T>>)
            for (int way = 0; way < 8; ++way)
              check_against_reference<M, P>(c, expected, keep_in_turn(way, R::erase != Erase::none));
          else
            check_against_reference<M, P>(c, expected, keep_in_turn(++turn, R::erase != Erase::none));
        }
      });
    }
  });
}

}  // namespace aviary::test
