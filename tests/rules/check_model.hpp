#pragma once
/// A model's memories against its reference.
#include <doctest/doctest.h>

#include "rules/models.hpp"
#include "support/compare.hpp"

namespace aviary::test {

/// CHECKs outputs and final states.
inline void check_close(MatrixResult const& x, MatrixResult const& expected, double bound) {
  CHECK(max_error(x.y, expected.y) <= bound);
  CHECK(max_error(x.state, expected.state) <= bound);
}

/// forward and a loop of step of memory M against a result.
template <class M> void check_memory(RuleCase<typename M::Rule> const& c, MatrixResult const& expected) {
  CAPTURE(sizeof(typename M::T));
  CAPTURE(M::keys);
  CAPTURE(M::values);
  check_close(RuleRun<M>(c).forward().result(), expected, matrix_bound<typename M::T>);
  check_close(RuleRun<M>(c).steps().result(), expected, matrix_bound<typename M::T>);
}

/// Memories of the given sizes, in float and in double, against the model's reference.
template <class Model, Index K, Index V> void check_sizes(Index keys, Index values, std::vector<Decay> const& decays) {
  for (Decay const decay : decays) {
    CAPTURE(name(decay));
    // sequences of no token, one, part of a tile, and several tiles; key heads shared by two value heads
    auto const c = draw_case<Model>(17, {keys, values, 4, {0, 0, 1, 4, 71}}, decay, 2);
    MatrixResult const expected = reference_of<typename Model::Reference>(c);
    check_memory<typename Model::template Memory<float, K, V>>(c, expected);
    check_memory<typename Model::template Memory<double, K, V>>(c, expected);
  }
}

/// A model in all sizes and at all decays against its reference.
template <class Model> void check_model() {
  std::vector<Decay> const decays{Decay::wkv7, Decay::slow, Decay::none, Decay::wide, Decay::extremes};
  check_sizes<Model, 16, 16>(16, 16, decays);
  check_sizes<Model, 16, 24>(16, 24, decays);
  check_sizes<Model, dynamic, dynamic>(24, 10, decays);
  check_sizes<Model, 64, 64>(64, 64, {Decay::wkv7});
}

}  // namespace aviary::test
