#include "aviary/layers/low_rank_token_shift.hpp"

#include <doctest/doctest.h>

#include "support/allocation_counter.hpp"
#include "support/compare.hpp"
#include "support/layer_case.hpp"
#include "support/temporary_folder.hpp"

using namespace aviary;
using test::Matrix;
using test::Random;

namespace {

template <class T, Index N> struct Case {
  using Shift = LowRankTokenShift<T, N>;
  Random random{1};
  Index c = 37, rank = 5;
  std::vector<T> base = random.rates<T>(c), first_row = random.normals<T>(c);
  Matrix<T> w1{c, N*rank, random, 0.2}, w2{N * rank, c, random, 0.4}, mix{N, c, random, 0.5};
  Matrix<T> x{13, c, random};

  typename Shift::Weights weights() const { return weights(std::make_index_sequence<to_size(N)>()); }
  template <std::size_t... n> typename Shift::Weights weights(std::index_sequence<n...>) const {
    return {.base = base,
            .w1 = w1.view(),
            .w2 = {w2.rows_of(static_cast<Index>(n) * rank, rank)...},
            .mix = {mix.view()[static_cast<Index>(n)]...}};
  }

  Matrix<T> before() const { return test::before<T>(x.view(), first_row); }

  /// Slice n of what x says, applied to `to`.
  Matrix<double> plain(Index n, Matrix<T> const& to) const {
    auto const at = [&](Matrix<T> const& m, Index t, Index i) {
      return static_cast<double>(t < 0 ? first_row[to_size(i)] : m(t, i));
    };
    Matrix<double> y(13, c);
    for (Index t = 0; t < 13; ++t) {
      for (Index i = 0; i < c; ++i) y(t, i) = static_cast<double>(mix(n, i));
      for (Index d = n * rank; d < (n + 1) * rank; ++d) {
        double hidden = 0;
        for (Index i = 0; i < c; ++i) {
          double const share = static_cast<double>(base[to_size(i)]);
          hidden += (at(x, t, i) * (1 - share) + at(x, t - 1, i) * share) * static_cast<double>(w1(i, d));
        }
        for (Index i = 0; i < c; ++i) y(t, i) += std::tanh(hidden) * static_cast<double>(w2(d, i));
      }
      for (Index i = 0; i < c; ++i) y(t, i) = at(to, t, i) * (1 - y(t, i)) + at(to, t - 1, i) * y(t, i);
    }
    return y;
  }
};

template <class T> constexpr double bound = std::is_same_v<T, float> ? 3e-6 : 1e-14;

}  // namespace

TEST_CASE_TEMPLATE("lora token shift: a plain loop, for each slice", Given, Case<float, 1>, Case<float, 2>,
                   Case<double, 5>) {
  using T = std::remove_const_t<std::remove_reference_t<decltype(Given().x(0, 0))>>;
  Given const given;
  typename Given::Shift const shift(given.weights());
  CHECK(shift.channels() == given.c);
  Scratch<T> scratch(13 * shift.scratch_size());
  Matrix<T> h(13, shift.hidden_size()), y(13, given.c), past = given.before();
  shift.prepare(given.x.view(), past.view(), h.view(), scratch);
  CHECK(scratch.left() == 13 * shift.scratch_size());
  for (Index n = 0; n < Given::Shift::slices; ++n) {
    shift(n, h.view(), given.x.view(), past.view(), y.view());
    CHECK(test::max_error(y.numbers, given.plain(n, given.x).numbers) <= bound<T>);
  }
}

TEST_CASE_TEMPLATE("lora token shift: one sequence says how another is shifted", T, float, double) {
  Case<T, 2> const given;
  LowRankTokenShift<T, 2> const shift(given.weights());
  Random random(2);
  Matrix<T> const other(13, given.c, random);
  Scratch<T> scratch(13 * shift.scratch_size());
  Matrix<T> h(13, shift.hidden_size()), y(13, given.c);
  shift.prepare(given.x.view(), given.before().view(), h.view(), scratch);
  shift(1, h.view(), other.view(), test::before<T>(other.view(), given.first_row).view(), y.view());
  CHECK(test::max_error(y.numbers, given.plain(1, other).numbers) <= bound<T>);
}

TEST_CASE_TEMPLATE("lora token shift: split anywhere, any executor", T, float, double) {
  Case<T, 5> const given;
  LowRankTokenShift<T, 5> const shift(given.weights());
  Scratch<T> scratch(13 * shift.scratch_size());
  Matrix<T> h(13, shift.hidden_size()), whole(13, given.c);
  shift.prepare(given.x.view(), given.before().view(), h.view(), scratch);
  shift(3, h.view(), given.x.view(), given.before().view(), whole.view());
  for (auto const& split : test::splits_of_13()) {
    Matrix<T> parts(13, given.c);
    std::vector<T> last = given.first_row;
    Index first = 0;
    for (Index const count : split) {
      auto const x = given.x.rows_of(first, count);
      auto const hidden = h.view().rows(first, count);
      Matrix<T> const past = test::before_and_keep(x, last);
      shift.prepare(x, past.view(), hidden, scratch, test::Backwards{});
      shift(3, hidden, x, past.view(), parts.view().rows(first, count), test::Backwards{});
      first += count;
    }
    CHECK(test::max_error(parts.numbers, whole.numbers) <= bound<T>);
  }
}

TEST_CASE("lora token shift: allocates nothing") {
  Case<float, 5> const given;
  LowRankTokenShift<float, 5> const shift(given.weights());
  Scratch<float> scratch(13 * shift.scratch_size());
  Matrix<float> h(13, shift.hidden_size()), y(13, given.c);
  Matrix<float> const past = given.before();
  test::AllocationCounter const allocations;
  shift.prepare(given.x.view(), past.view(), h.view(), scratch);
  for (Index n = 0; n < 5; ++n) shift(n, h.view(), given.x.view(), past.view(), y.view());
  CHECK(allocations.count() == 0);
}

TEST_CASE("lora token shift: shapes that do not fit are refused") {
  using Shift = LowRankTokenShift<float, 2>;
  Case<float, 2> const given;
  auto const message = [](Shift::Weights const& w) {
    return test::message_of<std::invalid_argument>([&] { Shift{w}; });
  };
  Matrix<float> const wrong(3, 7);
  auto w = given.weights();
  w.w1 = wrong.view();
  CHECK(message(w) == "aviary: LowRankTokenShift: w1 is 3 x 7, expected 37 x 10");
  w = given.weights();
  w.w2[1] = wrong.view();
  CHECK(message(w) == "aviary: LowRankTokenShift: w2 is 3 x 7, expected 5 x 37");
  w = given.weights();
  w.mix[1] = wrong.view()[0];
  CHECK(message(w) == "aviary: LowRankTokenShift: mix is 7, expected 37");
}
