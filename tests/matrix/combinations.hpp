#pragma once
/// All 18 combinations of traits, fixed and dynamic sizes, every instruction set of the build, against the reference.
///
/// The build's own instruction set meets every combination in every type and size. Each narrower one meets every combination
/// once, in types and sizes by turns: a kernel is written once, and takes long to compile.
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

/// How many types and sizes there are: those of float_static and double_dynamic come first, which are in every build.
#if defined(AVIARY_TEST_ONE_SIZE)
inline constexpr int kinds = 2;
#else
inline constexpr int kinds = 4;
#endif

/// Whether packs P meet a combination in the given one of n types and sizes. Neighbours in each trait take turns.
template <class P> constexpr bool is_met(int kind, int n, Gate g, Erase e, Read d) {
  int const combination = static_cast<int>(g) + static_cast<int>(e) + static_cast<int>(d);
  int const instruction_set = static_cast<int>(sizeof(P) / 16);  // 0 for numbers, then by width
  return std::is_same_v<P, simd::Native<typename simd::Pack<P>::value_type>> ||
         (combination + instruction_set) % n == kind;
}

/// Sequences of 0, 1, 3 and 40 tokens: nothing, a step, part of a tile and several tiles. `kind` says which of n types and
/// sizes this is.
template <class T, Index K, Index V, int kind, int n = kinds, bool constant = false>
void check_all_combinations(Index keys, Index values) {
  for_each_combination([&]<Gate G, Erase E, Read D>() {
    if constexpr (!constant || G != Gate::none) {
      using R = AnyRule<G, E, D, constant>;
      MatrixCase const c(7, {keys, values, 2, {0, 0, 1, 4, 44}}, G, E, constant, constant ? Decay::slow : Decay::wkv7);
      MatrixResult const expected = reference_result(c, D);
      RuleCase<R> const fields = c.of<R>();
      Note const gate("gate", name(G)), erase("erase", name(E)), read("read", name(D));
      simd::for_each_instruction_set<T>([&]<class P>(simd::InstructionSet<P> set) {
        if constexpr (is_met<P>(kind, n, G, E, D)) {
          Note const note("instruction set", set.name);
          check_against_reference<MatrixMemory<R, T, K, V>, P>(fields, expected);
        }
      });
    }
  });
}

}  // namespace aviary::test
