/// Gradients of the channel mix, and of the shifted linear maps in it, against central differences of its own forward pass.
#include <doctest/doctest.h>

#include "aviary/layers/channel_mix.hpp"
#include "support/float_gradients.hpp"
#include "support/layer_gradients.hpp"

using namespace aviary;
using test::LayerGradientCase;
using test::Matrix;
using test::Random;
using test::Tensors;

namespace {

template <class T = double> struct ChannelMixes {
  using Layer = ChannelMix<T>;
  ShareOf shares = ShareOf::previous;

  template <class As> typename Layer::template Parameters<As> parameters(test::TensorsAs<As> const& t) const {
    return {.x_k = t.row("x_k"),
            .key = t.matrix("key"),
            .value = t.matrix("value"),
            .x_r = t.row("x_r"),
            .receptance = t.matrix("receptance"),
            .shares = shares};
  }
};

/// 10 channels, 13 inside. No number of these cases comes so close to 0 before the squared relu that a difference would
/// reach over its kink.
LayerGradientCase<ChannelMixes<>> case_of(std::vector<Index> offsets, bool gated, ShareOf shares) {
  constexpr Index c = 10, f = 13;
  Random random(5);
  Tensors t;
  auto const put = [&](char const* name, Index rows, Index columns, double scale) {
    t.emplace(name, Matrix<double>(rows, columns, random, scale));
  };
  put("x_k", 1, c, 0.5);
  put("key", f, c, 0.4);
  put("value", c, f, 0.4);
  if (gated) {
    put("x_r", 1, c, 0.5);
    put("receptance", c, c, 0.4);
  }
  return {{shares}, std::move(t), std::move(offsets), 3};
}

}  // namespace

TEST_CASE("channel mix gradients: central differences, of every weight, with receptance and without") {
  for (ShareOf const shares : {ShareOf::previous, ShareOf::current})
    for (bool const gated : {false, true}) {
      test::Note const notes[]{{"current", shares == ShareOf::current}, {"gated", gated}};
      test::check_layer_differences(case_of({0, 3, 3, 8}, gated, shares));
    }
}

TEST_CASE("channel mix gradients: calls with the state's gradient handed back add up to one") {
  test::check_layer_in_two(case_of({0, 30}, true, ShareOf::current), 17);
  test::check_layer_in_two(case_of({0, 30}, false, ShareOf::previous), 1);
}

TEST_CASE("channel mix gradients: any executor, and whatever is wanted, the same bits, without allocation") {
  test::check_layer_executors(case_of({0, 7, 7, 40}, true, ShareOf::previous));
  test::check_layer_unwanted(case_of({0, 5}, true, ShareOf::current));
  test::check_layer_unwanted(case_of({0, 5}, false, ShareOf::previous));
}

TEST_CASE("channel mix gradients: floats are within the bound of doubles") {
  for (bool const gated : {false, true})
    test::check_float_gradients<ChannelMixes<float>>(case_of({0, 3, 3, 60}, gated, ShareOf::previous));
}
