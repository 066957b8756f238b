#include "aviary/layers/time_mix6.hpp"

#include <doctest/doctest.h>

#include "support/layer_case.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::Matrix;
using test::Random;

namespace {

/// Weights of a time mix of 12 channels with 2 heads of 8; each may be replaced by one of another shape.
struct Case {
  using TimeMix = aviary::TimeMix<Wkv6<float, 8>>;
  Random random{1};
  std::vector<float> mix = random.rates<float>(12), inner = random.normals<float>(16);
  Matrix<float> in{16, 12, random, 0.3}, out{12, 16, random, 0.3}, shift1{12, 20, random, 0.3},
      shift2{4, 12, random, 0.3}, first{12, 5, random, 0.3}, second{5, 16, random, 0.3}, u{2, 8, random},
      state{16, 8, random};

  TimeMix::Weights weights() const {
    VecView<float const> const m(mix);
    WeightMatrix const w2 = shift2.view();
    return {.shift = {.base = m, .w1 = shift1.view(), .w2 = {w2, w2, w2, w2, w2}, .mix = {m, m, m, m, m}},
            .receptance = in.view(),
            .key = in.view(),
            .value = in.view(),
            .gate = in.view(),
            .output = out.view(),
            .time_decay = inner,
            .w1 = first.view(),
            .w2 = second.view(),
            .u = u.view(),
            .ln_x_weight = inner,
            .ln_x_bias = inner,
            .first_state = state.view()};
  }
  std::string message(TimeMix::Weights const& w) const {
    return test::message_of<std::invalid_argument>([&] { TimeMix{w}; });
  }
};

}  // namespace

TEST_CASE("time mix 6: a trained state is the empty context, stored by value and key") {
  Case const given;
  auto const state = Case::TimeMix(given.weights()).empty_state();
  REQUIRE(state.s.size() == 2);
  for (Index h = 0; h < 2; ++h)
    for (Index i = 0; i < 8; ++i)
      for (Index j = 0; j < 8; ++j) CHECK(state.s[to_size(h)].view()(j, i) == given.state(h * 8 + i, j));
  auto w = given.weights();
  w.first_state = {nullptr, 0, 0};
  CHECK(Case::TimeMix(w).empty_state().s == std::vector<Case::TimeMix::Memory::State>(2));
}

TEST_CASE("time mix 6: weights of a wrong shape are refused by name") {
  Case const given;
  Matrix<float> const wrong(3, 7);
  VecView<float const> const short_row(wrong.numbers.data(), 7);
  auto w = given.weights();
  w.shift.mix[3] = short_row;
  CHECK(given.message(w) == "aviary: LowRankTokenShift: mix is 7, expected 12");
  w = given.weights();
  w.shift.base = short_row;
  CHECK(given.message(w) == "aviary: TimeMix<Wkv6>: receptance is 16 x 12, expected 16 x 7");
  w = given.weights();
  w.gate = wrong.view();
  CHECK(given.message(w) == "aviary: TimeMix<Wkv6>: gate is 3 x 7, expected 16 x 12");
  w = given.weights();
  w.time_decay = short_row;
  CHECK(given.message(w) == "aviary: TimeMix<Wkv6>: time_decay is 7, expected 16");
  w = given.weights();
  w.w2 = wrong.view();
  CHECK(given.message(w) == "aviary: TimeMix<Wkv6>: w2 is 3 x 7, expected 5 x 16");
  w = given.weights();
  w.u = wrong.view();
  CHECK(given.message(w) == "aviary: TimeMix<Wkv6>: u is 3 x 7, expected 3 x 8");
  w = given.weights();
  w.first_state = wrong.view();
  CHECK(given.message(w) == "aviary: TimeMix<Wkv6>: first_state is 3 x 7, expected 16 x 8");
}
