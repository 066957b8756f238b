/// Gradients of blocks, of one that shares values and one that does not, against central differences of their own forward
/// pass.
#include "aviary/layers/block.hpp"

#include <doctest/doctest.h>

#include "aviary/layers/time_mix5.hpp"
#include "support/mix7_case.hpp"

using namespace aviary;
using test::LayerGradientCase;
using test::Matrix;
using test::Random;
using test::Tensors;

namespace {

/// A block as a layer that writes y and leaves x alone.
template <class Memory> struct OutOfPlace : Block<TimeMix<Memory>> {
  using Base = Block<TimeMix<Memory>>;
  using Mix = aviary::TimeMix<Memory>;
  using Rows = MatView<double>;
  using typename Base::Weights;
  static constexpr bool shares_values = Mix::shares_values;
  using BackwardCall = detail::LayerBackwardCall<OutOfPlace>;

  using Base::Base;

  Index inner_channels() const { return this->time_mix().inner_channels(); }
  auto make_tape(Index tokens, Index sequences) const { return this->time_mix().make_tape(tokens, sequences); }
  /// @param v_first  if values are shared
  template <class S>
  void operator()(MatView<double const> x, S&& state, Rows y, Scratch<double>& scratch, auto... v_first) const {
    detail::transform_rows(y, activation::none, x);
    Base::operator()(y, state, scratch, v_first...);
  }
  /// @param more  v_first and dv_first if values are shared, an executor
  void backward(BackwardCall const& call, typename Mix::Tape& tape, Scratch<double>& scratch, auto&&... more) const {
    detail::add_rows(call.dx, call.dy);
    Base::backward({.weights = call.weights,
                    .x = call.x,
                    .states = call.states,
                    .d = call.dx,
                    .dstates = call.dstates,
                    .dweights = call.dweights},
                   tape, scratch, more...);
  }
};

/// Weights of the time mix of a block. The channel mix has receptance in RWKV-5.
struct Mix5 {
  using Memory = Wkv5<double, 8>;
  template <class As> static typename TimeMix<Memory>::Parameters<As> parameters(test::TensorsAs<As> const& t) {
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
            .ln_x_bias = t.row("ln_x_bias")};
  }
};
struct Mix7 : test::Mix7<8> {
  using Memory = Wkv7<double, 8>;
};

template <class Mix> struct BlockOf {
  using Layer = OutOfPlace<typename Mix::Memory>;
  template <class As> static typename Layer::template Parameters<As> parameters(test::TensorsAs<As> const& t) {
    return {.ln1_weight = t.row("ln1_weight"),
            .ln1_bias = t.row("ln1_bias"),
            .time_mix = Mix::parameters(t),
            .ln2_weight = t.row("ln2_weight"),
            .ln2_bias = t.row("ln2_bias"),
            .channel_mix = {.x_k = t.row("x_k of ffn"),
                            .key = t.matrix("key of ffn"),
                            .value = t.matrix("value of ffn"),
                            .x_r = t.row("x_r of ffn"),
                            .receptance = t.matrix("receptance of ffn")}};
  }
};

/// Adds what is around a time mix of 10 channels.
template <class Mix> LayerGradientCase<BlockOf<Mix>> block_of(Tensors t, std::vector<Index> offsets, bool gated) {
  constexpr Index c = 10, f = 9;
  Random random(6);
  auto const put = [&](char const* name, Index rows, Index columns, double scale) {
    t.emplace(name, Matrix<double>(rows, columns, random, scale));
  };
  for (char const* name : {"ln1_weight", "ln1_bias", "ln2_weight", "ln2_bias"}) put(name, 1, c, 1);
  put("x_k of ffn", 1, c, 0.5);
  put("key of ffn", f, c, 0.4);
  put("value of ffn", c, f, 0.4);
  if (gated) {
    put("x_r of ffn", 1, c, 0.5);
    put("receptance of ffn", c, c, 0.4);
  }
  return {{}, std::move(t), std::move(offsets), 3};
}

LayerGradientCase<BlockOf<Mix7>> case_of_7(std::vector<Index> offsets, bool first_layer) {
  return block_of<Mix7>(test::mix7_tensors(8, first_layer), std::move(offsets), false);
}

LayerGradientCase<BlockOf<Mix5>> case_of_5(std::vector<Index> offsets) {
  constexpr Index c = 10, heads = 2, n = 8, a = heads * n;
  Random random(8);
  Tensors t;
  auto const put = [&](char const* name, Index rows, Index columns, double scale) {
    t.emplace(name, Matrix<double>(rows, columns, random, scale));
  };
  for (char const* name : {"mix_r", "mix_k", "mix_v"}) put(name, 1, c, 0.5);
  for (char const* name : {"receptance", "key", "value"}) put(name, a, c, 0.4);
  put("output", c, a, 0.4);
  for (char const* name : {"time_decay", "u"}) put(name, heads, n, 0.5);
  for (char const* name : {"ln_x_weight", "ln_x_bias"}) put(name, 1, a, 1);
  return block_of<Mix5>(std::move(t), std::move(offsets), true);
}

}  // namespace

TEST_CASE("block gradients: central differences, of every weight, in the first layer and in others") {
  // Differences along a direction move all numbers of a matrix at once, 2e-3 together: through two layer norms and a squared
  // relu that leaves out some 1e-7.
  test::check_layer_differences(case_of_7({0, 2, 2, 7}, true), 1e-6);
  test::check_layer_differences(case_of_7({0, 6, 7}, false), 1e-6);
  test::check_layer_differences(case_of_5({0, 2, 2, 7}), 1e-6);
}

TEST_CASE("block gradients: calls with the states' gradients handed back add up to one") {
  test::check_layer_in_two(case_of_7({0, 30}, false), 17);
  test::check_layer_in_two(case_of_5({0, 30}), 17);
}

TEST_CASE("block gradients: any executor, and whatever is wanted, the same bits, without allocation") {
  test::check_layer_executors(case_of_7({0, 7, 7, 20}, false));
  test::check_layer_unwanted(case_of_7({0, 3}, false));
}
