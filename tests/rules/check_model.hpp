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

/// The bound on gradients in float; a model may say how it depends on the decay.
template <class Model> double gradient_bound(Decay decay) {
  if constexpr (requires { Model::gradient_bound(decay); })
    return Model::gradient_bound(decay);
  else
    return matrix_bound<float>;
}

/// Gradients in float against those in double, and these against central differences of the reference.
template <class Model> void check_gradients_of_model() {
  using R = typename Model::Rule;
  constexpr bool readings = R::erase != Erase::none;
  auto const check = [](Sizes sizes, Index keys, Index values, Decay decay, Keep keep) {
    Note const note_keys("keys", keys), note_values("values", values), note_decay("decay", name(decay));
    auto const c = with_gradients(29, draw_case<Model>(19, {keys, values, 4, {0, 0, 1, 4, 27}}, decay, 2));
    auto const exact = Memories<R>::gradients(c, Arithmetic::float64, sizes, keep);
    check_gradients(Memories<R>::gradients(c, Arithmetic::float32, sizes, keep), exact, gradient_bound<Model>(decay));
#if !defined(AVIARY_TEST_ONE_SIZE)
    if (keys <= 16)  // larger ones take long in algebra
      check_differences(c, exact, [](RuleCase<R> const& x) { return reference_of<typename Model::Reference>(x); });
#endif
  };
#if defined(AVIARY_TEST_ONE_SIZE)
  auto const check_small = [&](Decay decay, Keep keep) { check(Sizes::k16_v24, 16, 24, decay, keep); };
#else
  auto const check_small = [&](Decay decay, Keep keep) { check(Sizes::run_time, 9, 10, decay, keep); };
#endif
  check(Sizes::k16_v24, 16, 24, Decay::wkv7, {});
  check_small(Decay::slow, {.every = 5});
  check_small(Decay::extremes, {.every = 1, .readings = readings});
#if !defined(AVIARY_TEST_ONE_SIZE)
  check(Sizes::k16_v16, 16, 16, Decay::wide, {.every = 100, .readings = readings});
  check(Sizes::k64_v64, 64, 64, Decay::none, {.readings = readings});
#endif
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
  check_gradients_of_model<Model>();
}

}  // namespace aviary::test
