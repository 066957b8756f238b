#include "aviary/layers/time_mix5.hpp"

#include <doctest/doctest.h>

#include "support/compare.hpp"
#include "support/layer_case.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::Matrix;
using test::Random;

namespace {

/// Weights of a time mix of 12 channels with 2 heads of 8, with a decay and a bonus per head or, with `spread`, the same
/// ones for each channel; each may be replaced by one of another shape.
struct Case {
  Random random{1};
  std::vector<float> mix = random.rates<float>(12), ones = std::vector<float>(16, 1.0f);
  Matrix<float> in{16, 12, random, 0.3}, out{12, 16, random, 0.3}, decay{2, 1, random}, u{2, 1, random};

  static Case spread() {
    Case made;
    for (Matrix<float>* const m : {&made.decay, &made.u}) {
      Matrix<float> wide(2, 8);
      for (Index h = 0; h < 2; ++h)
        for (Index j = 0; j < 8; ++j) wide(h, j) = (*m)(h, 0);
      *m = wide;
    }
    return made;
  }

  template <class Memory> typename TimeMix<Memory>::Weights weights(bool gated = true) const {
    typename TimeMix<Memory>::Weights w{.mix_r = mix,
                                        .mix_k = mix,
                                        .mix_v = mix,
                                        .receptance = in.view(),
                                        .key = in.view(),
                                        .value = in.view(),
                                        .output = out.view(),
                                        .time_decay = decay.view(),
                                        .u = u.view(),
                                        .ln_x_weight = ones,
                                        .ln_x_bias = ones};
    if (!gated) return w;
    w.mix_g = mix;
    w.gate = in.view();
    return w;
  }

  template <class Memory> Matrix<float> run(bool gated = true) const {
    TimeMix<Memory> const layer(weights<Memory>(gated));
    CHECK(layer.channels() == 12);
    CHECK(layer.heads() == 2);
    CHECK(layer.head_size() == 8);
    Random rows(2);
    Matrix<float> const x(13, 12, rows);
    Matrix<float> y(13, 12);
    Scratch<float> scratch(13 * layer.scratch_size());
    auto state = layer.empty_state();
    layer(x.view(), state, y.view(), scratch);
    return y;
  }
};

template <class Memory> std::string message(typename TimeMix<Memory>::Weights const& w) {
  return test::message_of<std::invalid_argument>([&] { TimeMix<Memory>{w}; });
}

}  // namespace

TEST_CASE("time mix 5: one decay and bonus per head are the same ones for each channel") {
  for (bool const gated : {false, true}) {
    Matrix<float> const y = Case().run<Wkv5PerHead<float, 8>>(gated);
    CHECK(test::max_error(Case::spread().run<Wkv5<float, 8>>(gated).numbers, y.numbers) <= 3e-6);
    CHECK(test::max_error(Case().run<Wkv5PerHead<float, dynamic>>(gated).numbers, y.numbers) <= 3e-6);
    CHECK(test::max_error(Case::spread().run<Wkv5<float, dynamic>>(gated).numbers, y.numbers) <= 3e-6);
  }
  CHECK_FALSE(Case().run<Wkv5PerHead<float, 8>>(false) == Case().run<Wkv5PerHead<float, 8>>(true));
}

TEST_CASE("time mix 5: weights of a wrong shape are refused by name") {
  using PerHead = Wkv5PerHead<float, 8>;
  using PerChannel = Wkv5<float, dynamic>;
  Case const given, wide = Case::spread();
  Matrix<float> const wrong(3, 7);
  VecView<float const> const short_row(wrong.numbers.data(), 7);
  auto w = given.weights<PerHead>();
  w.mix_k = short_row;
  CHECK(message<PerHead>(w) == "aviary: TimeMix<Wkv5PerHead>: mix_k is 7, expected 12");
  w = given.weights<PerHead>();
  w.mix_g = short_row;
  CHECK(message<PerHead>(w) == "aviary: TimeMix<Wkv5PerHead>: mix_g is 7, expected 12");
  w = given.weights<PerHead>();
  w.gate = wrong.view();
  CHECK(message<PerHead>(w) == "aviary: TimeMix<Wkv5PerHead>: gate is 3 x 7, expected 16 x 12");
  w = given.weights<PerHead>();
  w.u = wide.u.view();
  CHECK(message<PerHead>(w) == "aviary: TimeMix<Wkv5PerHead>: u is 2 x 8, expected 2 x 1");
  w = given.weights<PerHead>();
  w.u = MatView<float const>(nullptr, 0, 1);
  CHECK(message<PerHead>(w) == "aviary: TimeMix<Wkv5PerHead>: u is 0 x 1, expected 1 x 1");

  auto v = wide.weights<PerChannel>();
  v.time_decay = given.decay.view();
  CHECK(message<PerChannel>(v) == "aviary: TimeMix<Wkv5>: time_decay is 2 x 1, expected 2 x 8");
  v = wide.weights<PerChannel>();
  v.ln_x_weight = short_row;
  CHECK(message<PerChannel>(v) == "aviary: TimeMix<Wkv5>: ln_x_weight is 7, expected 16");
  v = wide.weights<PerChannel>();
  v.value = wrong.view();
  CHECK(message<PerChannel>(v) == "aviary: TimeMix<Wkv5>: value is 3 x 7, expected 16 x 12");
}
