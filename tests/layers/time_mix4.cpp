#include "aviary/layers/time_mix4.hpp"

#include <doctest/doctest.h>

#include "support/compare.hpp"
#include "support/layer_case.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::Matrix;
using test::Random;

namespace {

/// Weights of a time mix of 12 channels with 16 inside; each may be replaced by one of another shape.
template <Index Channels> struct Case {
  using TimeMix = aviary::TimeMix<Wkv4<float, Channels>>;
  Random random{1};
  std::vector<float> mix = random.rates<float>(12), decay = random.normals<float>(16), u = random.normals<float>(16);
  Matrix<float> in{16, 12, random, 0.3}, out{12, 16, random, 0.3};

  typename TimeMix::Weights weights() const {
    return {.mix_r = mix,
            .mix_k = mix,
            .mix_v = mix,
            .receptance = in.view(),
            .key = in.view(),
            .value = in.view(),
            .output = out.view(),
            .time_decay = decay,
            .u = u};
  }
  std::string message(typename TimeMix::Weights const& w) const {
    return test::message_of<std::invalid_argument>([&] { TimeMix{w}; });
  }
};

}  // namespace

TEST_CASE("time mix 4: channels known at compile time are those known at run time") {
  Case<16> const fixed;
  Case<dynamic> const flexible;
  Case<16>::TimeMix const a(fixed.weights());
  Case<dynamic>::TimeMix const b(flexible.weights());
  CHECK(a.channels() == 12);
  CHECK(b.inner_channels() == 16);
  Random random(2);
  Matrix<float> const x(13, 12, random);
  Matrix<float> y(13, 12), z(13, 12);
  Scratch<float> scratch(13 * a.scratch_size());
  auto state_a = a.empty_state();
  auto state_b = b.empty_state();
  CHECK(state_a.s.size() == 1);
  a(x.view(), state_a, y.view(), scratch);
  b(x.view(), state_b, z.view(), scratch);
  CHECK(test::max_error(y.numbers, z.numbers) <= 1e-6);
}

TEST_CASE_TEMPLATE("time mix 4: weights of a wrong shape are refused by name", Given, Case<16>, Case<dynamic>) {
  Given const given;
  Matrix<float> const wrong(3, 7);
  VecView<float const> const short_row(wrong.numbers.data(), 7);
  auto w = given.weights();
  w.mix_v = short_row;
  CHECK(given.message(w) == "aviary: TimeMix<Wkv4>: mix_v is 7, expected 12");
  w = given.weights();
  w.receptance = wrong.view();
  CHECK(given.message(w) == "aviary: TimeMix<Wkv4>: receptance is 3 x 7, expected 16 x 12");
  w = given.weights();
  w.output = wrong.view();
  CHECK(given.message(w) == "aviary: TimeMix<Wkv4>: output is 3 x 7, expected 12 x 16");
  w = given.weights();
  w.time_decay = short_row;
  CHECK(given.message(w) == "aviary: TimeMix<Wkv4>: time_decay is 7, expected 16");
  w = given.weights();
  w.u = short_row;
  CHECK(given.message(w) == "aviary: TimeMix<Wkv4>: u is 7, expected 16");
}

TEST_CASE("time mix 4: at least one channel") {
  Case<dynamic> const given;
  auto w = given.weights();
  w.key = w.receptance = {};
  CHECK(given.message(w) == "aviary: TimeMix<Wkv4>: receptance is 0 x 0, expected 1 x 12");
}
