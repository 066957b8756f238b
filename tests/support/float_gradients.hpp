#pragma once
/// Gradients of layers of float, against those of the same layer of double.
#include <algorithm>

#include "support/layer_gradients.hpp"

namespace aviary::test {

/// Checks that the gradients of a layer of floats are within the bound of its documentation. The numbers of a case are
/// floats. Kind is the layer's, of float, and Exact the same of double.
template <class Kind, class Exact>
void check_float_gradients(LayerGradientCase<Exact> const& c, Kind const& kind = {},
                           Place place = {__builtin_FILE(), __builtin_LINE()}) {
  using Layer = typename Kind::Layer;
  LayerGradients<Exact> expected(c), before(c);
  expected.add(c);

  auto const rounded = [](Matrix<double> const& m) {
    Matrix<float> to(m.rows, m.columns);
    std::transform(m.numbers.begin(), m.numbers.end(), to.numbers.begin(),
                   [](double e) { return static_cast<float>(e); });
    return to;
  };
  TensorsOf<float> weights, gradients;
  for (auto const& [name, tensor] : c.tensors) {
    weights.emplace(name, rounded(tensor));
    gradients.emplace(name, Matrix<float>(tensor.rows, tensor.columns));
  }
  using Given = GivenWeights<float>;
  using Wanted = WeightGradients<float>;
  auto const w = kind.template parameters<Given>(TensorsAs<Given>{weights});
  auto const d = kind.template parameters<Wanted>(TensorsAs<Wanted>{gradients});
  Layer const layer(w);
  Index const n = c.x.rows, s = c.sequences();
  auto const many = [s](auto const& one, std::vector<double> const& numbers) {
    std::vector states(to_size(s), one);
    auto from = numbers.begin();
    for (auto& state : states) for_each_number(state, [&](float& e) { e = static_cast<float>(*from++); });
    return states;
  };
  auto const states = many(layer.empty_state(), c.states);
  auto dstates = many(layer.empty_state_gradient(), c.dstates);
  Matrix<float> const x = rounded(c.x), dy = rounded(c.dy);
  Matrix<float> dx(n, c.x.columns), v_first = rounded(c.v_first), dv_first = rounded(before.dv_first);
  typename Layer::BackwardCall const call{.weights = w,
                                          .x = x.view(),
                                          .states = {std::span(states), c.offsets},
                                          .dy = dy.view(),
                                          .dx = dx.view(),
                                          .dstates = dstates,
                                          .dweights = d};
  if constexpr (requires { layer.make_tape(n, s); }) {
    auto tape = layer.make_tape(n, s);
    Scratch<float> scratch(layer.backward_scratch_size(n, s));
    if constexpr (Layer::shares_values)
      layer.backward(call, tape, scratch, v_first.view(), dv_first.view());
    else
      layer.backward(call, tape, scratch);
  } else {
    Scratch<float> scratch(layer.backward_scratch_size(n));
    layer.backward(call, scratch);
  }

  constexpr double bound = 2e-5;
  check_close(dx.numbers, expected.dx.numbers, bound, place);
  check_close(numbers_in(dstates), numbers_in(expected.dstates), bound, place);
  if (c.shares_values) check_close(dv_first.numbers, expected.dv_first.numbers, bound, place);
  for (auto const& [name, tensor] : gradients) {
    Note const note("gradient of", name);
    check_close(tensor.numbers, expected.tensors.at(name).numbers, bound, place);
  }
}

}  // namespace aviary::test
