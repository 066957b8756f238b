#include "aviary/layers/time_mix7.hpp"

#include <doctest/doctest.h>

#include "support/layer_case.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::Matrix;

namespace {

/// Weights of a time mix of 12 channels with 2 heads of 8; each may be replaced by one of another shape.
struct TimeMixCase {
  using TimeMix = aviary::TimeMix<Wkv7<float, 8>>;
  Matrix<float> channels{1, 12}, inner{1, 16}, in{16, 12}, out{12, 16}, first{12, 5}, second{5, 16}, r_k{2, 8};

  TimeMix::Weights weights() const {
    VecView<float const> const c(channels.numbers), a(inner.numbers);
    return {.x_r = c,
            .x_w = c,
            .x_k = c,
            .x_v = c,
            .x_a = c,
            .x_g = c,
            .receptance = in.view(),
            .key = in.view(),
            .value = in.view(),
            .output = out.view(),
            .w0 = a,
            .w1 = first.view(),
            .w2 = second.view(),
            .a0 = a,
            .a1 = first.view(),
            .a2 = second.view(),
            .g1 = first.view(),
            .g2 = second.view(),
            .k_k = a,
            .k_a = a,
            .r_k = r_k.view(),
            .ln_x_weight = a,
            .ln_x_bias = a};
  }
  std::string message(TimeMix::Weights const& w) const {
    return test::message_of<std::invalid_argument>([&] { TimeMix{w}; });
  }
};

}  // namespace

TEST_CASE("time mix 7: weights of a wrong shape are refused by name") {
  TimeMixCase given;
  CHECK(TimeMixCase::TimeMix(given.weights()).channels() == 12);
  CHECK(TimeMixCase::TimeMix(given.weights()).inner_channels() == 16);
  Matrix<float> const wrong(3, 7);
  VecView<float const> const short_row(wrong.numbers.data(), 7);

  auto w = given.weights();
  w.r_k = wrong.view();
  CHECK(given.message(w) == "aviary: TimeMix<Wkv7>: r_k is 3 x 7, expected 3 x 8");
  w = given.weights();
  w.x_g = short_row;
  CHECK(given.message(w) == "aviary: TimeMix<Wkv7>: x_g is 7, expected 12");
  w = given.weights();
  w.ln_x_bias = short_row;
  CHECK(given.message(w) == "aviary: TimeMix<Wkv7>: ln_x_bias is 7, expected 16");
  w = given.weights();
  w.output = wrong.view();
  CHECK(given.message(w) == "aviary: TimeMix<Wkv7>: output is 3 x 7, expected 12 x 16");
  w = given.weights();
  w.a2 = wrong.view();
  CHECK(given.message(w) == "aviary: TimeMix<Wkv7>: a2 is 3 x 7, expected 5 x 16");
  w = given.weights();
  w.v0 = VecView<float const>(given.inner.numbers);
  w.v1 = wrong.view();
  CHECK(given.message(w) == "aviary: TimeMix<Wkv7>: v1 is 3 x 7, expected 12 x 7");
}
