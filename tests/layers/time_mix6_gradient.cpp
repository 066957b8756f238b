/// Gradients of RWKV-6's time mix against central differences of its own forward pass.
#include <doctest/doctest.h>

#include "aviary/layers/time_mix6.hpp"
#include "support/block_gradients.hpp"
#include "support/float_gradients.hpp"
#include "support/layer_gradients.hpp"

using namespace aviary;
using test::LayerGradientCase;
using test::Matrix;
using test::Random;
using test::Tensors;

namespace {

template <Index N, class T = double> struct Mix6 {
  using Layer = TimeMix<Wkv6<T, N>>;

  template <class As> static typename Layer::template Parameters<As> parameters(test::TensorsAs<As> const& t) {
    return {.shift = {.base = t.row("maa_x"),
                      .w1 = t.matrix("maa_w1"),
                      .w2 = {t.matrix("maa_w2_w"), t.matrix("maa_w2_k"), t.matrix("maa_w2_v"), t.matrix("maa_w2_r"),
                             t.matrix("maa_w2_g")},
                      .mix = {t.row("maa_w"), t.row("maa_k"), t.row("maa_v"), t.row("maa_r"), t.row("maa_g")}},
            .receptance = t.matrix("receptance"),
            .key = t.matrix("key"),
            .value = t.matrix("value"),
            .gate = t.matrix("gate"),
            .output = t.matrix("output"),
            .time_decay = t.row("time_decay"),
            .w1 = t.matrix("w1"),
            .w2 = t.matrix("w2"),
            .u = t.table("u"),
            .ln_x_weight = t.row("ln_x_weight"),
            .ln_x_bias = t.row("ln_x_bias"),
            .first_state = t.table("first_state")};
  }
};

/// 10 channels, two heads of n, ranks 4 and 3.
Tensors tensors(Index n) {
  constexpr Index c = 10, heads = 2, rank = 4, decay_rank = 3;
  Index const a = heads * n;
  Random random(7);
  Tensors t;
  auto const put = [&](char const* name, Index rows, Index columns, double scale) {
    t.emplace(name, Matrix<double>(rows, columns, random, scale));
  };
  for (char const* name : {"maa_x", "maa_w", "maa_k", "maa_v", "maa_r", "maa_g"}) put(name, 1, c, 0.5);
  put("maa_w1", c, 5 * rank, 0.3);
  for (char const* name : {"maa_w2_w", "maa_w2_k", "maa_w2_v", "maa_w2_r", "maa_w2_g"}) put(name, rank, c, 0.3);
  for (char const* name : {"receptance", "key", "value", "gate"}) put(name, a, c, 0.4);
  put("output", c, a, 0.4);
  put("time_decay", 1, a, 1);
  put("w1", c, decay_rank, 0.5);
  put("w2", decay_rank, a, 0.5);
  put("u", heads, n, 1);
  for (char const* name : {"ln_x_weight", "ln_x_bias"}) put(name, 1, a, 1);
  return t;
}

template <Index N> LayerGradientCase<Mix6<N>> case_of(std::vector<Index> offsets, std::uint64_t seed = 3) {
  return {{}, tensors(N == dynamic ? 5 : N), std::move(offsets), seed};
}

}  // namespace

TEST_CASE("time mix 6 gradients: central differences, of every weight, static and dynamic") {
  test::check_layer_differences(case_of<8>({0, 5, 5, 23}));
  test::check_layer_differences(case_of<dynamic>({0, 1, 19, 19}));
}

TEST_CASE("time mix 6 gradients: calls with the state's gradient handed back add up to one") {
  test::check_layer_in_two(case_of<8>({0, 30}), 17);
  test::check_layer_in_two(case_of<dynamic>({0, 30}), 1);
}

TEST_CASE("time mix 6 gradients: any executor, the same bits, without allocation") {
  test::check_layer_executors(case_of<8>({0, 7, 7, 40}));
  test::check_layer_executors(case_of<dynamic>({0, 20}));
}

TEST_CASE("time mix 6 gradients: what is not wanted changes no bit of the others") {
  test::check_layer_unwanted(case_of<8>({0, 3, 20}));
}

TEST_CASE("time mix 6 gradients: floats are within the bound of doubles") {
  test::check_float_gradients<Mix6<8, float>>(case_of<8>({0, 5, 5, 60}));
}

TEST_CASE("time mix 6 gradients: more sequences than a call of the memory takes, and no token at all") {
  test::check_layer_differences(case_of<8>(test::offsets_of_many_sequences()));
  test::check_layer_without_tokens(case_of<8>({0, 0, 0}));
}

TEST_CASE("time mix 6 gradients: of a trained first state, from that of the state before the first token") {
  test::check_first_state(case_of<8>({0, 4, 9}));
}

TEST_CASE("time mix 6 gradients: in a block, central differences of every weight") {
  test::check_layer_differences(test::block_case<Mix6<8>>(tensors(8), {0, 2, 2, 7}), 1e-6);
}

TEST_CASE("time mix 6 gradients: what is done between gets the outputs and gives dy") {
  test::check_layer_between(case_of<8>({0, 5, 5, 23}));
}
