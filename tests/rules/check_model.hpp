#pragma once
/// A model's memories against its reference.
#include <doctest/doctest.h>

#include "rules/models.hpp"

namespace aviary::test {

/// forward and a loop of step against a result in float and in double.
template <class R> void check_memories(RuleCase<R> const& c, Sizes sizes, MatrixResult const& expected) {
  for (Arithmetic const number : {Arithmetic::float32, Arithmetic::float64}) {
    Note const note("arithmetic", name(number));
    check_close(Memories<R>::forward(c, number, sizes), expected, matrix_bound_of(number));
    check_close(Memories<R>::steps(c, number, sizes), expected, matrix_bound_of(number));
  }
}

/// A model in all sizes and at all decays against its reference.
template <class Model> void check_model() {
  auto const check = [](Sizes sizes, Index keys, Index values, std::vector<Decay> const& decays) {
    Note const note_keys("keys", keys), note_values("values", values);
    for (Decay const decay : decays) {
      Note const note("decay", name(decay));
      // sequences of no token, one, part of a tile, and several tiles; key heads shared by two value heads
      auto const c = draw_case<Model>(17, {keys, values, 4, {0, 0, 1, 4, 71}}, decay, 2);
      check_memories(c, sizes, reference_of<typename Model::Reference>(c));
    }
  };
  std::vector<Decay> const decays{Decay::wkv7, Decay::slow, Decay::none, Decay::wide, Decay::extremes};
  check(Sizes::k16_v24, 16, 24, decays);
#if !defined(AVIARY_TEST_ONE_SIZE)
  check(Sizes::k16_v16, 16, 16, decays);
  check(Sizes::run_time, 24, 10, decays);
  check(Sizes::k64_v64, 64, 64, {Decay::wkv7});
#endif
}

}  // namespace aviary::test
