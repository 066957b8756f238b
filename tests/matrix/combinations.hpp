#pragma once
/// All 18 combinations of traits, fixed and dynamic sizes, every instruction set of the build, against the reference.
#include <doctest/doctest.h>

#include "aviary/simd/instruction_sets.hpp"
#include "support/matrix_case.hpp"

namespace aviary::test {

/// forward and a loop of step with packs P against the reference.
template <class M, class P>
void check_against_reference(RuleCase<typename M::Rule> const& c, MatrixResult const& expected) {
  using T = typename M::T;
  RuleRun<M> run(c);
  require_empty(M::check(run.call()));
  M::template forward<P>(run.call());
  check_close(run.result(), expected, matrix_bound<T>);
  if constexpr (std::is_same_v<P, simd::Native<T>>)  // a sequence of one token is a step: once is enough
    check_close(RuleRun<M>(c).template steps<P>().result(), expected, matrix_bound<T>);
}

/// Sequences of 0, 1, 3 and 40 tokens: nothing, a step, part of a tile and several tiles.
template <class T, Index K, Index V, bool constant = false> void check_all_combinations(Index keys, Index values) {
  for_each_combination([&]<Gate G, Erase E, Read D>() {
    if constexpr (!constant || G != Gate::none) {
      using R = AnyRule<G, E, D, constant>;
      MatrixCase const c(7, {keys, values, 2, {0, 0, 1, 4, 44}}, G, E, constant, constant ? Decay::slow : Decay::wkv7);
      MatrixResult const expected = reference_result(c, D);
      RuleCase<R> const fields = c.of<R>();
      Note const gate("gate", name(G)), erase("erase", name(E)), read("read", name(D));
      simd::for_each_instruction_set<T>([&]<class P>(simd::InstructionSet<P> set) {
        Note const note("instruction set", set.name);
        check_against_reference<MatrixMemory<R, T, K, V>, P>(fields, expected);
      });
    }
  });
}

}  // namespace aviary::test
