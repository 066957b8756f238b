#include "aviary/layers/channel_mix.hpp"

#include <doctest/doctest.h>

#include "support/allocation_counter.hpp"
#include "support/compare.hpp"
#include "support/layer_case.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::Matrix;
using test::Random;

namespace {

template <class T> struct Case {
  Random random{1};
  Index c = 24, inner = 50;
  std::vector<T> x_k = random.rates<T>(c), x_r = random.rates<T>(c);
  Matrix<T> key{inner, c, random, 0.2}, value{c, inner, random, 0.2}, receptance{c, c, random, 0.2};
  Matrix<T> x{13, c, random};

  ChannelMix<T> make(bool gated) const {
    typename ChannelMix<T>::Weights w{.x_k = x_k, .key = key.view(), .value = value.view()};
    if (gated) {
      w.x_r = x_r;
      w.receptance = receptance.view();
    }
    return ChannelMix<T>(w);
  }

  Matrix<double> plain(bool gated) const {
    Matrix<double> y(13, c);
    for (Index t = 0; t < 13; ++t) {
      auto const shifted = [&](std::vector<T> const& mix, Index i) {
        double const now = static_cast<double>(x(t, i)), past = t > 0 ? static_cast<double>(x(t - 1, i)) : 0;
        return now + (past - now) * static_cast<double>(mix[to_size(i)]);
      };
      for (Index f = 0; f < inner; ++f) {
        double hidden = 0;
        for (Index i = 0; i < c; ++i) hidden += static_cast<double>(key(f, i)) * shifted(x_k, i);
        double const squared = hidden > 0 ? hidden * hidden : 0;
        for (Index o = 0; o < c; ++o) y(t, o) += static_cast<double>(value(o, f)) * squared;
      }
      for (Index o = 0; gated && o < c; ++o) {
        double gate = 0;
        for (Index i = 0; i < c; ++i) gate += static_cast<double>(receptance(o, i)) * shifted(x_r, i);
        y(t, o) /= 1 + std::exp(-gate);
      }
    }
    return y;
  }
};

template <class T> constexpr double bound = std::is_same_v<T, float> ? 2e-5 : 1e-12;

}  // namespace

TEST_CASE_TEMPLATE("channel mix: a plain loop, with and without gate", T, float, double) {
  Case<T> const given;
  for (bool const gated : {false, true}) {
    ChannelMix<T> const mix = given.make(gated);
    Scratch<T> scratch(13 * mix.scratch_size());
    auto state = mix.empty_state();
    Matrix<T> y(13, given.c);
    mix(given.x.view(), state, y.view(), scratch);
    CHECK(test::max_error(y.numbers, given.plain(gated).numbers) <= bound<T>);
    CHECK(std::equal(state.x.begin(), state.x.end(), given.x.view()[12].begin()));
  }
}

TEST_CASE_TEMPLATE("channel mix: split anywhere, any scratch and executor, within rounding", T, float, double) {
  Case<T> const given;
  ChannelMix<T> const mix = given.make(true);
  Scratch<T> large(13 * mix.scratch_size()), small(2 * mix.scratch_size());
  Matrix<T> whole(13, given.c);
  auto whole_state = mix.empty_state();
  mix(given.x.view(), whole_state, whole.view(), large);
  for (auto const& split : test::splits_of_13())
    for (Scratch<T>* const scratch : {&large, &small}) {
      Matrix<T> parts(13, given.c);
      auto state = mix.empty_state();
      Index first = 0;
      for (Index const count : split) {
        mix(given.x.rows_of(first, count), state, parts.view().rows(first, count), *scratch, test::Backwards{});
        first += count;
      }
      CHECK(test::max_error(parts.numbers, whole.numbers) <= bound<T>);
      CHECK(state == whole_state);
    }
}

TEST_CASE("channel mix: shares of the current token, and the form for one token") {
  Case<float> const given;
  ChannelMix<float> const mix = given.make(true);
  std::vector<float> x_k, x_r;
  for (float const share : given.x_k) x_k.push_back(1 - share);
  for (float const share : given.x_r) x_r.push_back(1 - share);
  ChannelMix<float> const other({.x_k = x_k,
                                 .key = given.key.view(),
                                 .value = given.value.view(),
                                 .x_r = x_r,
                                 .receptance = given.receptance.view(),
                                 .shares = ShareOf::current});
  Scratch<float> scratch(13 * mix.scratch_size());
  Matrix<float> y(13, given.c);
  auto state = mix.empty_state(), rows = mix.empty_state();
  other(given.x.view(), state, y.view(), scratch);
  CHECK(test::max_error(y.numbers, given.plain(true).numbers) <= bound<float>);
  std::vector<float> one(to_size(given.c));
  for (Index t = 0; t < 13; ++t) {
    other(given.x.view()[t], rows, one, scratch);
    CHECK(test::max_error(one, y.view()[t]) <= bound<float>);
  }
  CHECK(rows == state);
}

TEST_CASE("channel mix: allocates nothing, gives its scratch back") {
  Case<float> const given;
  ChannelMix<float> const mix = given.make(true);
  Scratch<float> scratch(4 * mix.scratch_size());
  auto state = mix.empty_state();
  Matrix<float> y(13, given.c);
  test::AllocationCounter const allocations;
  mix(given.x.view(), state, y.view(), scratch);
  CHECK(allocations.count() == 0);
  CHECK(scratch.left() == 4 * mix.scratch_size());
}

TEST_CASE("channel mix: reset makes a state that of the empty context, without allocation") {
  Case<float> const given;
  ChannelMix<float> const mix = given.make(true);
  Scratch<float> scratch(13 * mix.scratch_size());
  auto state = mix.empty_state();
  Matrix<float> y(13, given.c), again(13, given.c);
  mix(given.x.view(), state, y.view(), scratch);
  CHECK_FALSE(state == mix.empty_state());
  {
    test::AllocationCounter const allocations;
    mix.reset(state);
    CHECK(allocations.count() == 0);
  }
  static_assert(noexcept(mix.reset(state)));
  CHECK(state == mix.empty_state());
  mix(given.x.view(), state, again.view(), scratch);
  CHECK(again == y);
}

TEST_CASE("channel mix: shapes that do not fit are refused") {
  Case<float> given;
  given.value = Matrix<float>(given.c, 49);
  CHECK(test::message_of<std::invalid_argument>([&] { given.make(false); }) ==
        "aviary: ChannelMix: value is 24 x 49, expected 24 x 50");
  given = {};
  given.receptance = Matrix<float>(given.c, 23);
  CHECK(test::message_of<std::invalid_argument>([&] { given.make(true); }) ==
        "aviary: ChannelMix: receptance is 24 x 23, expected 24 x 24");
  given = {};
  Scratch<float> scratch(10);
  auto const mix = given.make(false);
  auto state = mix.empty_state();
  Matrix<float> y(13, given.c);
  CHECK(test::message_of<std::invalid_argument>([&] { mix(given.x.view(), state, y.view(), scratch); }) ==
        "aviary: scratch has 10 numbers left, one token needs " + std::to_string(mix.scratch_size()));
}
