/// Gradients of a block of RWKV-7 against central differences of its own forward pass.
#include "aviary/layers/block.hpp"

#include <doctest/doctest.h>

#include "support/mix7_case.hpp"

using namespace aviary;
using test::LayerGradientCase;
using test::Matrix;
using test::Mix7;
using test::Random;
using test::Tensors;

namespace {

using Base = Block<TimeMix<Wkv7<double, 8>>>;

/// A block as a layer that writes y and leaves x alone.
struct OutOfPlace : Base {
  static constexpr bool shares_values = true;
  using BackwardCall = detail::LayerBackwardCall<OutOfPlace>;

  explicit OutOfPlace(Weights const& w)
      : Base(LayerNorm<double>(w.ln1_weight, w.ln1_bias), TimeMix(w.time_mix),
             LayerNorm<double>(w.ln2_weight, w.ln2_bias), ChannelMix<double>(w.channel_mix)) {}

  Index inner_channels() const { return time_mix().inner_channels(); }
  Base::TimeMix::Tape make_tape(Index tokens, Index sequences) const { return time_mix().make_tape(tokens, sequences); }
  template <class S>
  void operator()(MatView<double const> x, S&& state, MatView<double> y, Scratch<double>& scratch,
                  MatView<double> v_first) const {
    detail::transform_rows(y, activation::none, x);
    Base::operator()(y, state, scratch, v_first);
  }
  template <class E = Serial>
  void backward(BackwardCall const& call, Base::TimeMix::Tape& tape, Scratch<double>& scratch, MatView<double> v_first,
                MatView<double> dv_first, E&& executor = {}) const {
    detail::add_rows(call.dx, call.dy);
    Base::backward({.weights = call.weights,
                    .x = call.x,
                    .states = call.states,
                    .d = call.dx,
                    .dstates = call.dstates,
                    .dweights = call.dweights},
                   tape, scratch, v_first, dv_first, executor);
  }
};

struct Block7 {
  using Layer = OutOfPlace;
  template <class As> static Layer::Parameters<As> parameters(test::TensorsAs<As> const& t) {
    return {
        .ln1_weight = t.row("ln1_weight"),
        .ln1_bias = t.row("ln1_bias"),
        .time_mix = Mix7<8>::parameters(t),
        .ln2_weight = t.row("ln2_weight"),
        .ln2_bias = t.row("ln2_bias"),
        .channel_mix = {.x_k = t.row("x_k of ffn"), .key = t.matrix("key of ffn"), .value = t.matrix("value of ffn")}};
  }
};

LayerGradientCase<Block7> case_of(std::vector<Index> offsets, bool first_layer) {
  constexpr Index c = 10, f = 9;
  Tensors t = test::mix7_tensors(8, first_layer);
  Random random(6);
  auto const put = [&](char const* name, Index rows, Index columns, double scale) {
    t.emplace(name, Matrix<double>(rows, columns, random, scale));
  };
  for (char const* name : {"ln1_weight", "ln1_bias", "ln2_weight", "ln2_bias"}) put(name, 1, c, 1);
  put("x_k of ffn", 1, c, 0.5);
  put("key of ffn", f, c, 0.4);
  put("value of ffn", c, f, 0.4);
  return {{}, std::move(t), std::move(offsets), 3};
}

}  // namespace

TEST_CASE("block gradients: central differences, of every weight, in the first layer and in others") {
  // Differences along a direction move all numbers of a matrix at once, 2e-3 together: through two layer norms and a squared
  // relu that leaves out some 1e-7.
  test::check_layer_differences(case_of({0, 2, 2, 7}, true), 1e-6);
  test::check_layer_differences(case_of({0, 6, 7}, false), 1e-6);
}

TEST_CASE("block gradients: calls with the states' gradients handed back add up to one") {
  test::check_layer_in_two(case_of({0, 30}, false), 17);
}

TEST_CASE("block gradients: any executor, and whatever is wanted, the same bits, without allocation") {
  test::check_layer_executors(case_of({0, 7, 7, 20}, false));
  test::check_layer_unwanted(case_of({0, 3}, false));
}
