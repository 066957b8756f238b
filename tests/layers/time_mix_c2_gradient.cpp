/// Gradients of Finch-C2's time mix against central differences of its own forward pass.
#include <doctest/doctest.h>

#include "aviary/layers/time_mix_c2.hpp"
#include "support/block_gradients.hpp"
#include "support/float_gradients.hpp"
#include "support/layer_gradients.hpp"

using namespace aviary;
using test::LayerGradientCase;
using test::Matrix;
using test::Random;
using test::Tensors;

namespace {

template <Index N, class T = double> struct MixC2 {
  using Layer = TimeMix<FinchC2<T, N>>;

  template <class As> static typename Layer::template Parameters<As> parameters(test::TensorsAs<As> const& t) {
    return {.shift = {.base = t.row("maa_x"),
                      .w1 = t.matrix("maa_w1"),
                      .w2 = {t.matrix("maa_w2_r"), t.matrix("maa_w2_k"), t.matrix("maa_w2_v"), t.matrix("maa_w2_w"),
                             t.matrix("maa_w2_v2")},
                      .mix = {t.row("maa_r"), t.row("maa_k"), t.row("maa_v"), t.row("maa_w"), t.row("maa_v2")}},
            .receptance = t.matrix("receptance"),
            .key = t.matrix("key"),
            .value = t.matrix("value"),
            .output = t.matrix("output"),
            .time_decay = t.row("time_decay"),
            .w1 = t.matrix("w1"),
            .w2 = t.matrix("w2"),
            .value2_w1 = t.matrix("value2_w1"),
            .value2_w2 = t.matrix("value2_w2"),
            .heads = Required<Index>(2),
            .ln_x_weight = t.row("ln_x_weight"),
            .ln_x_bias = t.row("ln_x_bias"),
            .first_state = t.table("first_state")};
  }
};

/// 10 channels, two heads of n, ranks 4, 3 and 2.
Tensors tensors(Index n) {
  constexpr Index c = 10, heads = 2, rank = 4, decay_rank = 3, value2_rank = 2;
  Index const a = heads * n;
  Random random(7);
  Tensors t;
  auto const put = [&](char const* name, Index rows, Index columns, double scale) {
    t.emplace(name, Matrix<double>(rows, columns, random, scale));
  };
  for (char const* name : {"maa_x", "maa_r", "maa_k", "maa_v", "maa_w", "maa_v2"}) put(name, 1, c, 0.5);
  put("maa_w1", c, 5 * rank, 0.3);
  for (char const* name : {"maa_w2_r", "maa_w2_k", "maa_w2_v", "maa_w2_w", "maa_w2_v2"}) put(name, rank, c, 0.3);
  for (char const* name : {"receptance", "key", "value"}) put(name, a, c, 0.4);
  put("output", c, a, 0.4);
  put("time_decay", 1, a, 1);
  put("w1", c, decay_rank, 0.5);
  put("w2", decay_rank, a, 0.5);
  put("value2_w1", c, value2_rank, 0.5);
  put("value2_w2", value2_rank, a, 0.5);
  for (char const* name : {"ln_x_weight", "ln_x_bias"}) put(name, 1, a, 1);
  return t;
}

template <Index N> LayerGradientCase<MixC2<N>> case_of(std::vector<Index> offsets, std::uint64_t seed = 3) {
  return {{}, tensors(N == dynamic ? 5 : N), std::move(offsets), seed};
}

}  // namespace

TEST_CASE("time mix c2 gradients: central differences, of every weight, static and dynamic") {
  test::check_layer_differences(case_of<8>({0, 5, 5, 23}));
  test::check_layer_differences(case_of<dynamic>({0, 1, 19, 19}));
}

TEST_CASE("time mix c2 gradients: calls with the state's gradient handed back add up to one") {
  test::check_layer_in_two(case_of<8>({0, 30}), 17);
  test::check_layer_in_two(case_of<dynamic>({0, 30}), 1);
}

TEST_CASE("time mix c2 gradients: any executor, the same bits, without allocation") {
  test::check_layer_executors(case_of<8>({0, 7, 7, 40}));
  test::check_layer_executors(case_of<dynamic>({0, 20}));
}

TEST_CASE("time mix c2 gradients: what is not wanted changes no bit of the others") {
  test::check_layer_unwanted(case_of<8>({0, 3, 20}));
}

TEST_CASE("time mix c2 gradients: floats are within the bound of doubles") {
  test::check_float_gradients<MixC2<8, float>>(case_of<8>({0, 5, 5, 60}));
}

TEST_CASE("time mix c2 gradients: more sequences than a call of the memory takes, and no token at all") {
  test::check_layer_differences(case_of<8>(test::offsets_of_many_sequences()));
  test::check_layer_without_tokens(case_of<8>({0, 0, 0}));
}

TEST_CASE("time mix c2 gradients: of a trained first state, from that of the state before the first token") {
  test::check_first_state(case_of<8>({0, 4, 9}));
}

TEST_CASE("time mix c2 gradients: in a block, central differences of every weight") {
  test::check_layer_differences(test::block_case<MixC2<8>>(tensors(8), {0, 2, 2, 7}), 1e-6);
}

TEST_CASE("time mix c2 gradients: what is done between gets the outputs and gives dy") {
  test::check_layer_between(case_of<8>({0, 5, 5, 23}));
}
