#pragma once
/// All 18 combinations of traits, fixed and dynamic sizes, every instruction set of the build, against the reference.
#include <doctest/doctest.h>

#include "aviary/simd/instruction_sets.hpp"
#include "support/compare.hpp"
#include "support/matrix_case.hpp"

namespace aviary::test {

inline char const* text(Gate g) { return g == Gate::none ? "none" : g == Gate::scalar ? "scalar" : "vector"; }
inline char const* text(Erase e) { return e == Erase::none ? "none" : e == Erase::along_key ? "along_key" : "free"; }
inline char const* text(Read r) { return r == Read::before ? "before" : "after"; }

/// forward and a loop of step with packs P against the reference.
template <class M, class P> void check_against_reference(MatrixCase const& c, MatrixResult const& expected) {
  using T = typename M::T;
  MatrixCall<M> run(c);
  REQUIRE(M::check(run.call()) == "");
  M::template forward<P>(run.call());
  CHECK(max_error(run.result().y, expected.y) <= matrix_bound<T>);
  CHECK(max_error(run.result().state, expected.state) <= matrix_bound<T>);

  if constexpr (std::is_same_v<P, simd::Native<T>>) {  // a sequence of one token is a step: once is enough
    MatrixCall<M> steps(c);
    for (Index s = 0; s < c.shape.sequences(); ++s)
      for (Index h = 0; h < c.shape.heads; ++h)
        for (Index t = c.shape.offsets[to_size(s)]; t < c.shape.offsets[to_size(s + 1)]; ++t)
          M::template step<P>(steps.states[to_size(s * c.shape.heads + h)], steps.token(t, h), steps.output(t, h));
    CHECK(max_error(steps.result().y, expected.y) <= matrix_bound<T>);
    CHECK(max_error(steps.result().state, expected.state) <= matrix_bound<T>);
  }
}

/// Sequences of 0, 1, 3 and 40 tokens: nothing, a step, part of a tile and several tiles.
template <class T, Index K, Index V, bool constant = false> void check_all_combinations(Index keys, Index values) {
  for_each_combination([&]<Gate G, Erase E, Read D>() {
    if constexpr (!constant || G != Gate::none) {
      using R = AnyRule<G, E, D, constant>;
      MatrixCase const c(7, {keys, values, 2, {0, 0, 1, 4, 44}}, G, E, constant, constant ? Decay::slow : Decay::wkv7);
      MatrixResult const expected = reference_result<R>(c);
      CAPTURE(text(G));
      CAPTURE(text(E));
      CAPTURE(text(D));
      simd::for_each_instruction_set<T>([&]<class P>(simd::InstructionSet<P> set) {
        CAPTURE(set.name);
        check_against_reference<MatrixMemory<R, T, K, V>, P>(c, expected);
      });
    }
  });
}

}  // namespace aviary::test
