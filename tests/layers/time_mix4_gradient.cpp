/// Gradients of RWKV-4's time mix against central differences of its own forward pass.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "aviary/layers/time_mix4.hpp"
#include "support/block_gradients.hpp"
#include "support/layer_gradients.hpp"

using namespace aviary;
using test::LayerGradientCase;
using test::Matrix;
using test::Random;
using test::Tensors;

namespace {

template <Index Channels> struct Mix4 {
  using Layer = TimeMix<Wkv4<double, Channels>>;

  template <class As> static typename Layer::template Parameters<As> parameters(test::TensorsAs<As> const& t) {
    return {.mix_r = t.row("mix_r"),
            .mix_k = t.row("mix_k"),
            .mix_v = t.row("mix_v"),
            .receptance = t.matrix("receptance"),
            .key = t.matrix("key"),
            .value = t.matrix("value"),
            .output = t.matrix("output"),
            .time_decay = t.row("time_decay"),
            .u = t.row("u")};
  }
};

/// 10 channels, a of them inside.
Tensors tensors(Index a) {
  constexpr Index c = 10;
  Random random(7);
  Tensors t;
  auto const put = [&](char const* name, Index rows, Index columns, double scale) {
    t.emplace(name, Matrix<double>(rows, columns, random, scale));
  };
  for (char const* name : {"mix_r", "mix_k", "mix_v"}) put(name, 1, c, 0.5);
  for (char const* name : {"receptance", "key", "value"}) put(name, a, c, 0.4);
  put("output", c, a, 0.4);
  for (char const* name : {"time_decay", "u"}) put(name, 1, a, 1);
  return t;
}

/// All sums of the states are positive, as those of weights are.
template <Index Channels>
LayerGradientCase<Mix4<Channels>> case_of(std::vector<Index> offsets, std::uint64_t seed = 3) {
  LayerGradientCase<Mix4<Channels>> made{{}, tensors(Channels == dynamic ? 13 : Channels), std::move(offsets), seed};
  for (double& number : made.states) number = 0.1 + std::abs(number);
  return made;
}

}  // namespace

TEST_CASE("time mix 4 gradients: central differences, of every weight, static and dynamic") {
  test::check_layer_differences(case_of<16>({0, 5, 5, 23}));
  test::check_layer_differences(case_of<dynamic>({0, 1, 19, 19}));
}

TEST_CASE("time mix 4 gradients: central differences from empty contexts") {
  auto made = case_of<16>({0, 5, 5, 23});
  std::fill(made.states.begin(), made.states.end(), 0.0);
  test::check_layer_differences(made);
}

TEST_CASE("time mix 4 gradients: calls with the state's gradient handed back add up to one") {
  test::check_layer_in_two(case_of<16>({0, 30}), 17);
  test::check_layer_in_two(case_of<dynamic>({0, 30}), 1);
}

TEST_CASE("time mix 4 gradients: any executor, and whatever is wanted, the same bits, without allocation") {
  test::check_layer_executors(case_of<16>({0, 7, 7, 40}));
  test::check_layer_executors(case_of<dynamic>({0, 20}));
  test::check_layer_unwanted(case_of<16>({0, 5}));
}

TEST_CASE("time mix 4 gradients: more sequences than a call of the memory takes") {
  test::check_layer_differences(case_of<16>(test::offsets_of_many_sequences()));
}

TEST_CASE("time mix 4 gradients: no token changes no gradient") {
  test::check_layer_without_tokens(case_of<16>({0, 0, 0}));
}

TEST_CASE("time mix 4 gradients: in a block, central differences of every weight") {
  test::check_layer_differences(test::block_case<Mix4<16>>(tensors(16), {0, 2, 2, 7}), 1e-6);
}

TEST_CASE("time mix 4 gradients: what is done between gets the outputs and gives dy") {
  test::check_layer_between(case_of<16>({0, 5, 5, 23}));
}
