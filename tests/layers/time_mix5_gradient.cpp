/// Gradients of RWKV-5's time mixes against central differences of their own forward pass.
#include <doctest/doctest.h>

#include "aviary/layers/time_mix5.hpp"
#include "support/block_gradients.hpp"
#include "support/layer_gradients.hpp"

using namespace aviary;
using test::LayerGradientCase;
using test::Matrix;
using test::Random;
using test::Tensors;

namespace {

template <class Memory> struct Mix5 {
  using Layer = TimeMix<Memory>;

  template <class As> static typename Layer::template Parameters<As> parameters(test::TensorsAs<As> const& t) {
    return {.mix_r = t.row("mix_r"),
            .mix_k = t.row("mix_k"),
            .mix_v = t.row("mix_v"),
            .receptance = t.matrix("receptance"),
            .key = t.matrix("key"),
            .value = t.matrix("value"),
            .output = t.matrix("output"),
            .time_decay = t.table("time_decay"),
            .u = t.table("u"),
            .ln_x_weight = t.row("ln_x_weight"),
            .ln_x_bias = t.row("ln_x_bias"),
            .mix_g = t.row("mix_g"),
            .gate = t.matrix("gate"),
            .first_state = t.table("first_state")};
  }
};

/// 10 channels, two heads of n, whose decays and bonuses are so many.
Tensors tensors(Index n, Index constants, bool gated) {
  constexpr Index c = 10, heads = 2;
  Index const a = heads * n;
  Random random(7);
  Tensors t;
  auto const put = [&](char const* name, Index rows, Index columns, double scale) {
    t.emplace(name, Matrix<double>(rows, columns, random, scale));
  };
  for (char const* name : {"mix_r", "mix_k", "mix_v"}) put(name, 1, c, 0.5);
  for (char const* name : {"receptance", "key", "value"}) put(name, a, c, 0.4);
  put("output", c, a, 0.4);
  for (char const* name : {"time_decay", "u"}) put(name, heads, constants, 1);
  for (char const* name : {"ln_x_weight", "ln_x_bias"}) put(name, 1, a, 1);
  if (!gated) return t;
  put("mix_g", 1, c, 0.5);
  put("gate", a, c, 0.4);
  return t;
}

/// Version 5.2, with heads of a size known at compile time.
LayerGradientCase<Mix5<Wkv5<double, 8>>> version_52(std::vector<Index> offsets) {
  return {{}, tensors(8, 8, true), std::move(offsets), 3};
}
/// Versions 5.1 and 5.0, the one without a gate, with heads of a size known at run time.
LayerGradientCase<Mix5<Wkv5PerHead<double, dynamic>>> version_51(std::vector<Index> offsets) {
  return {{}, tensors(5, 1, true), std::move(offsets), 4};
}
LayerGradientCase<Mix5<Wkv5PerHead<double, dynamic>>> version_50(std::vector<Index> offsets) {
  return {{}, tensors(5, 1, false), std::move(offsets), 5};
}

}  // namespace

TEST_CASE("time mix 5 gradients: central differences, of every weight, of all versions") {
  test::check_layer_differences(version_52({0, 5, 5, 23}));
  test::check_layer_differences(version_51({0, 1, 19, 19}));
  test::check_layer_differences(version_50({0, 1, 19, 19}));
}

TEST_CASE("time mix 5 gradients: calls with the state's gradient handed back add up to one") {
  test::check_layer_in_two(version_52({0, 30}), 17);
  test::check_layer_in_two(version_50({0, 30}), 1);
}

TEST_CASE("time mix 5 gradients: any executor, and whatever is wanted, the same bits, without allocation") {
  test::check_layer_executors(version_52({0, 7, 7, 40}));
  test::check_layer_executors(version_50({0, 20}));
  test::check_layer_unwanted(version_52({0, 5}));
  test::check_layer_unwanted(version_50({0, 5}));
}

TEST_CASE("time mix 5 gradients: more sequences than a call of the memory takes") {
  std::vector<Index> const offsets = test::offsets_of_many_sequences();
  test::check_layer_differences(version_52(offsets));
  // Among so many heads of five numbers some have a small variance, which the group norm divides by. The error of the
  // differences is 2e-8 there, and falls with the fourth power of their step.
  test::check_layer_differences(version_51(offsets), 1e-7);
}

TEST_CASE("time mix 5 gradients: no token changes no gradient") {
  test::check_layer_without_tokens(version_52({0, 0, 0}));
}

TEST_CASE("time mix 5 gradients: of a trained first state, from that of the state before the first token") {
  test::check_first_state(version_52({0, 4, 9}));
  test::check_first_state(version_50({0, 4, 9}));
}

TEST_CASE("time mix 5 gradients: in a block, central differences of every weight") {
  test::check_layer_differences(test::block_case<Mix5<Wkv5<double, 8>>>(tensors(8, 8, true), {0, 2, 2, 7}), 1e-6);
  test::check_layer_differences(
      test::block_case<Mix5<Wkv5PerHead<double, dynamic>>>(tensors(5, 1, false), {0, 2, 2, 7}), 1e-6);
}

TEST_CASE("time mix 5 gradients: what is done between gets the outputs and gives dy") {
  test::check_layer_between(version_52({0, 5, 5, 23}));
}
