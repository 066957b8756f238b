#pragma once
/// All 18 combinations of traits, fixed and dynamic sizes, every instruction set of the build, against the reference.
///
/// The build's own instruction set meets every combination in float of fixed sizes and, by turns, once in each type and once
/// in each of fixed and dynamic sizes. Each narrower one meets every combination once, in types and sizes by turns, or half of
/// them in a build with AVIARY_TEST_ONE_SIZE: a kernel is written once, and takes long to compile.
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

/// Types and sizes. With AVIARY_TEST_ONE_SIZE there are the first two.
enum class Kind { float_fixed, double_dynamic, float_dynamic, double_fixed };

/// Whether packs P meet a combination in this type and size. Neighbours in each trait take turns, so that every two values of
/// different traits meet in every type and size.
template <class P> constexpr bool is_met(Kind kind, Gate g, Erase e, Read d) {
  int const combination = static_cast<int>(g) + static_cast<int>(e) + static_cast<int>(d);
  if (std::is_same_v<P, simd::Native<typename simd::Pack<P>::value_type>>)
    return kind == Kind::float_fixed || combination % 2 == (kind == Kind::double_dynamic ? 0 : 1);
  int const instruction_set = static_cast<int>(sizeof(P) / 16);  // 0 for numbers, then by width
  return (combination + instruction_set) % 4 == static_cast<int>(kind);
}

/// Constant decays have one type and size, and their own way from log_w to a pack alone: each combination meets one narrower
/// instruction set, and each instruction set a third of them.
template <class P> constexpr bool is_met_with_constant(Gate g, Erase e, Read d) {
  int const combination = static_cast<int>(g) + static_cast<int>(e) + static_cast<int>(d);
  return std::is_same_v<P, simd::Native<typename simd::Pack<P>::value_type>> ||
         (combination + static_cast<int>(sizeof(P) / 16)) % 3 == 0;
}

/// Sequences of no token, a step, and 3, 6 and 44 tokens: groups of 2, 3 and 4 tokens, and every remainder of them.
template <class T, Index K, Index V, Kind kind, bool constant = false>
void check_all_combinations(Index keys, Index values) {
  for_each_combination([&]<Gate G, Erase E, Read D>() {
    if constexpr (!constant || G != Gate::none) {
      using R = AnyRule<G, E, D, constant>;
      MatrixCase const c(7, {keys, values, 2, {0, 0, 1, 4, 10, 54}}, G, E, constant,
                         constant ? Decay::slow : Decay::wkv7);
      MatrixResult const expected = reference_result(c, D);
      RuleCase<R> const fields = c.of<R>();
      Note const gate("gate", name(G)), erase("erase", name(E)), read("read", name(D));
      simd::for_each_instruction_set<T>([&]<class P>(simd::InstructionSet<P> set) {
        if constexpr (constant ? is_met_with_constant<P>(G, E, D) : is_met<P>(kind, G, E, D)) {
          Note const note("instruction set", set.name);
          check_against_reference<MatrixMemory<R, T, K, V>, P>(fields, expected);
        }
      });
    }
  });
}

}  // namespace aviary::test
