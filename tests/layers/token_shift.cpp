#include "aviary/layers/token_shift.hpp"

#include <doctest/doctest.h>

#include "support/compare.hpp"
#include "support/layer_case.hpp"

using namespace aviary;
using test::Matrix;
using test::Random;

TEST_CASE_TEMPLATE("token shift: between a token and the one before, which carries over a split", T, float, double) {
  Random random(1);
  Index const c = 37;
  Matrix<T> const x(13, c, random);
  auto const before = random.normals<T>(c), mix = random.rates<T>(c);
  Matrix<double> plain(13, c);
  for (Index t = 0; t < 13; ++t)
    for (Index i = 0; i < c; ++i) {
      double const now = static_cast<double>(x(t, i)), m = static_cast<double>(mix[to_size(i)]);
      double const past = static_cast<double>(t > 0 ? x(t - 1, i) : before[to_size(i)]);
      plain(t, i) = now * (1 - m) + past * m;
    }
  TokenShift<T> const shift(mix);
  Matrix<T> whole(13, c);
  shift(x.view(), before, whole.view());
  CHECK(test::max_error(whole.numbers, plain.numbers) <= (std::is_same_v<T, float> ? 3e-7 : 1e-15));

  for (auto const& split : test::splits_of_13()) {
    Matrix<T> parts(13, c);
    AlignedVector<T> last(before.begin(), before.end());
    Index first = 0;
    for (Index const count : split) {
      shift(x.rows_of(first, count), last, parts.view().rows(first, count));
      detail::keep_last_row(x.rows_of(first, count), last);
      first += count;
    }
    CHECK(parts == whole);
  }
}

TEST_CASE("token shift: shares of 0 and 1 give the token and the one before") {
  Random random(2);
  for (Index const c : {1, 2, 16, 37}) {
    Matrix<float> const x(3, c, random);
    auto const before = random.normals<float>(c);
    std::vector<float> mix;
    for (Index i = 0; i < c; ++i) mix.push_back(static_cast<float>(i % 2));
    TokenShift<float> const shift(mix);
    Matrix<float> y(3, c);
    shift(x.view(), before, y.view());
    for (Index t = 0; t < 3; ++t)
      for (Index i = 0; i < c; ++i) {
        float const past = t > 0 ? x(t - 1, i) : before[to_size(i)];
        if (i % 2 == 0)
          CHECK(y(t, i) == x(t, i));
        else  // x + (past - x) rounds twice
          CHECK(y(t, i) == doctest::Approx(past).epsilon(1e-6));
      }
  }
}

TEST_CASE_TEMPLATE("token shift: shares of the current token are the rest of those of the previous one", T, float,
                   double) {
  Random random(3);
  Index const c = 37;
  Matrix<T> const x(13, c, random);
  auto const before = random.normals<T>(c), shares = random.rates<T>(c);
  std::vector<T> rest;
  for (T const share : shares) rest.push_back(T(1) - share);
  Matrix<T> of_current(13, c), of_previous(13, c);
  TokenShift<T> const current(shares, ShareOf::current), previous(rest);
  current(x.view(), before, of_current.view());
  previous(x.view(), before, of_previous.view());
  CHECK(of_current == of_previous);
}

TEST_CASE("token shift: the form for one token") {
  Random random(4);
  Matrix<float> const x(1, 37, random);
  auto const before = random.normals<float>(37), shares = random.rates<float>(37);
  TokenShift<float> const shift(shares);
  Matrix<float> expected(1, 37);
  std::vector<float> y(37);
  shift(x.view(), before, expected.view());
  shift(x.numbers, before, y);
  CHECK(y == expected.numbers);
}
