#include "aviary/dense/low_rank.hpp"

#include <doctest/doctest.h>

#include "support/allocation_counter.hpp"
#include "support/compare.hpp"
#include "support/layer_case.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::Matrix;
using test::Random;

TEST_CASE_TEMPLATE("lora: two products and a function between, of a plain loop", T, float, double) {
  Random random(1);
  for (Index const rank : {1, 6, 16, 33})
    for (Index const tokens : {1, 7}) {
      Matrix<T> const w1(40, rank, random), w2(rank, 24, random), x(tokens, 40, random);
      Matrix<double> plain(tokens, 24);
      for (Index t = 0; t < tokens; ++t)
        for (Index d = 0; d < rank; ++d) {
          double hidden = 0;
          for (Index i = 0; i < 40; ++i) hidden += static_cast<double>(x(t, i)) * static_cast<double>(w1(i, d));
          for (Index o = 0; o < 24; ++o) plain(t, o) += std::tanh(hidden) * static_cast<double>(w2(d, o));
        }
      LowRank<T> const lora(w1.view(), w2.view());
      Scratch<T> scratch(tokens * lora.scratch_size());
      Matrix<T> y(tokens, 24);
      test::AllocationCounter const allocations;
      lora(
          x.view(),
          [](auto const& e) {
            using std::tanh;
            return tanh(e);
          },
          y.view(), scratch);
      CHECK(allocations.count() == 0);
      CHECK(scratch.left() == tokens * lora.scratch_size());
      CHECK(test::max_error(y.numbers, plain.numbers) <= (std::is_same_v<T, float> ? 2e-5 : 1e-12));
    }
}

TEST_CASE("lora: factors of different ranks are refused") {
  Matrix<float> const w1(40, 8), w2(9, 24);
  CHECK(test::message_of<std::invalid_argument>([&] { LowRank<float>(w1.view(), w2.view()); }) ==
        "aviary: LowRank: the second factor is 9 x 24, expected 8 x 24");
}

TEST_CASE("lora: a decay is -exp of its low-rank map and a number of each channel") {
  Random random(2);
  Index const tokens = 5;
  Matrix<double> const w1(40, 6, random), w2(6, 24, random), base(1, 24, random), x(tokens, 40, random);
  LowRankDecay<double> const decay(base.view()[0], w1.view(), w2.view());
  Scratch<double> scratch(tokens * decay.scratch_size());
  Matrix<double> log_w(tokens, 24), map(tokens, 24);
  LowRank<double>(w1.view(), w2.view())(x.view(), activation::tanh, map.view(), scratch);
  decay(x.view(), log_w.view(), scratch);
  for (Index t = 0; t < tokens; ++t)
    for (Index o = 0; o < 24; ++o) {
      double const expected = -std::exp(base(0, o) + map(t, o));
      CHECK(std::abs(log_w(t, o) - expected) <= 1e-15 * std::abs(expected));
    }
  CHECK(test::message_of<std::invalid_argument>([&] {
          LowRankDecay<double>(base.view()[0].segment(0, 23), w1.view(), w2.view());
        }) == "aviary: LowRankDecay: time_decay is 23, expected 24");
}
