#pragma once
/// Gradients of layers of float, against those of the same layer of double.
#include <algorithm>

#include "support/layer_gradients.hpp"

namespace aviary::test {

using FloatTensors = std::map<std::string, Matrix<float>>;

/// Tensors as one of the structs of parameters.hpp names them, in floats.
template <class As> struct FloatTensorsAs {
  FloatTensors& tensors;

  typename As::Vector row(char const* name) const { return tensors.at(name).view()[0]; }
  typename As::Matrix matrix(char const* name) const { return tensors.at(name).view(); }
  typename As::Table table(char const* name) const {
    auto const found = tensors.find(name);
    if (found == tensors.end()) return As::no_table();
    return found->second.view();
  }
};

/// Checks that the gradients of a time mix of floats are within the bound of its documentation. The numbers of a case
/// are floats. Kind is the layer's, of float, and Exact the same of double.
template <class Kind, class Exact>
void check_float_gradients(LayerGradientCase<Exact> const& c, Place place = {__builtin_FILE(), __builtin_LINE()}) {
  using Layer = typename Kind::Layer;
  LayerGradients<Exact> expected(c);
  expected.add(c);

  auto const rounded = [](Matrix<double> const& m) {
    Matrix<float> to(m.rows, m.columns);
    std::transform(m.numbers.begin(), m.numbers.end(), to.numbers.begin(),
                   [](double e) { return static_cast<float>(e); });
    return to;
  };
  FloatTensors weights, gradients;
  for (auto const& [name, tensor] : c.tensors) {
    weights.emplace(name, rounded(tensor));
    gradients.emplace(name, Matrix<float>(tensor.rows, tensor.columns));
  }
  auto const w = Kind::template parameters<GivenWeights<float>>(FloatTensorsAs<GivenWeights<float>>{weights});
  auto const d = Kind::template parameters<WeightGradients<float>>(FloatTensorsAs<WeightGradients<float>>{gradients});
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
  Matrix<float> dx(n, c.x.columns);
  auto tape = layer.make_tape(n, s);
  Scratch<float> scratch(layer.backward_scratch_size(n, s));
  layer.backward({.weights = w,
                  .x = x.view(),
                  .states = {std::span(states), c.offsets},
                  .dy = dy.view(),
                  .dx = dx.view(),
                  .dstates = dstates,
                  .dweights = d},
                 tape, scratch);

  constexpr double bound = 2e-5;
  check_close(dx.numbers, expected.dx.numbers, bound, place);
  check_close(numbers_in(dstates), numbers_in(expected.dstates), bound, place);
  for (auto const& [name, tensor] : gradients) {
    Note const note("gradient of", name);
    check_close(tensor.numbers, expected.tensors.at(name).numbers, bound, place);
  }
}

}  // namespace aviary::test
