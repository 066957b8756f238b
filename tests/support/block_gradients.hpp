#pragma once
/// Blocks around small time mixes, for tests of gradients.
#include <algorithm>
#include <cmath>

#include "aviary/layers/block.hpp"
#include "support/layer_gradients.hpp"

namespace aviary::test {

/// A block as a layer that writes y and leaves x alone.
template <class Mix> struct OutOfPlaceBlock : Block<Mix> {
  using Base = Block<Mix>;
  using Rows = MatView<double>;
  static constexpr bool shares_values = Mix::shares_values;
  using BackwardCall = aviary::detail::LayerBackwardCall<OutOfPlaceBlock>;

  using Base::Base;

  Index inner_channels() const { return this->time_mix().inner_channels(); }
  auto make_tape(Index tokens, Index sequences) const { return this->time_mix().make_tape(tokens, sequences); }
  /// @param v_first  if values are shared
  template <class S>
  void operator()(MatView<double const> x, S&& state, Rows y, Scratch<double>& scratch, auto... v_first) const {
    aviary::detail::transform_rows(y, activation::none, x);
    Base::operator()(y, state, scratch, v_first...);
  }
  /// @param more  v_first and dv_first if values are shared, an executor
  void backward(BackwardCall const& call, typename Mix::Tape& tape, Scratch<double>& scratch, auto&&... more) const {
    aviary::detail::add_rows(call.dx, call.dy);
    Base::backward({.weights = call.weights,
                    .x = call.x,
                    .states = call.states,
                    .d = call.dx,
                    .dstates = call.dstates,
                    .dweights = call.dweights},
                   tape, scratch, more...);
  }
};

/// A kind of layers: blocks around the time mixes of kind Mix.
template <class Mix> struct BlockOf {
  using Layer = OutOfPlaceBlock<typename Mix::Layer>;
  template <class As> static typename Layer::template Parameters<As> parameters(TensorsAs<As> const& t) {
    return {.ln1_weight = t.row("ln1_weight"),
            .ln1_bias = t.row("ln1_bias"),
            .time_mix = Mix::template parameters<As>(t),
            .ln2_weight = t.row("ln2_weight"),
            .ln2_bias = t.row("ln2_bias"),
            .channel_mix = {.x_k = t.row("x_k of ffn"),
                            .key = t.matrix("key of ffn"),
                            .value = t.matrix("value of ffn"),
                            .x_r = t.row("x_r of ffn"),
                            .receptance = t.matrix("receptance of ffn")}};
  }
};

/// Adds what is around a time mix of 10 channels, and random inputs. What the channel mix reads is at least 0.1, and each row
/// of its key has numbers of one sign. So none of its keys is near 0, where the squared relu has a kink that central
/// differences must not reach over.
/// @param t  the weights of the time mix     @param gated  whether the channel mix has a receptance
template <class Mix>
LayerGradientCase<BlockOf<Mix>> block_case(Tensors t, std::vector<Index> offsets, bool gated = true) {
  constexpr Index c = 10, f = 9;
  Random random(6);
  auto const put = [&](char const* name, Index rows, Index columns, double scale) -> Matrix<double>& {
    return t.emplace(name, Matrix<double>(rows, columns, random, scale)).first->second;
  };
  auto const map = [](Matrix<double>& m, auto const& number) {
    for (double& e : m.numbers) e = number(e);
  };
  for (char const* name : {"ln1_weight", "ln1_bias"}) put(name, 1, c, 1);
  // A standardized number is at most sqrt(c - 1) = 3.
  map(put("ln2_weight", 1, c, 0.3), [](double e) { return std::clamp(e, -0.5, 0.5); });
  map(put("ln2_bias", 1, c, 1), [](double e) { return 1.6 + std::abs(e); });
  map(put("x_k of ffn", 1, c, 0.5), [](double e) { return std::min(std::abs(e), 1.0); });
  Matrix<double>& key = put("key of ffn", f, c, 0.2);
  for (Index row = 0; row < f; ++row)
    for (double& e : key.view()[row]) e = row % 2 == 0 ? std::abs(e) : -std::abs(e);
  put("value of ffn", c, f, 0.4);
  if (gated) {
    put("x_r of ffn", 1, c, 0.5);
    put("receptance of ffn", c, c, 0.4);
  }
  LayerGradientCase<BlockOf<Mix>> made{{}, std::move(t), std::move(offsets), 3};
  for (double& number : made.states) number = 0.1 + std::abs(number);  // among them inputs of the channel mix
  return made;
}

}  // namespace aviary::test
