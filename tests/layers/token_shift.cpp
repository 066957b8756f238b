#include "aviary/layers/token_shift.hpp"

#include <doctest/doctest.h>

#include "support/compare.hpp"
#include "support/layer_case.hpp"

using namespace aviary;
using test::before;
using test::Matrix;
using test::Random;

TEST_CASE_TEMPLATE("token shift: between a token and the one before, which carries over a split", T, float, double) {
  Random random(1);
  Index const c = 37;
  Matrix<T> const x(13, c, random);
  auto const first_row = random.normals<T>(c), mix = random.rates<T>(c);
  Matrix<double> plain(13, c);
  for (Index t = 0; t < 13; ++t)
    for (Index i = 0; i < c; ++i) {
      double const now = static_cast<double>(x(t, i)), m = static_cast<double>(mix[to_size(i)]);
      double const past = static_cast<double>(t > 0 ? x(t - 1, i) : first_row[to_size(i)]);
      plain(t, i) = now * (1 - m) + past * m;
    }
  TokenShift<T> const shift(mix);
  Matrix<T> whole(13, c);
  shift(x.view(), before<T>(x.view(), first_row).view(), whole.view());
  CHECK(test::max_error(whole.numbers, plain.numbers) <= (std::is_same_v<T, float> ? 3e-7 : 1e-15));

  for (auto const& split : test::splits_of_13()) {
    Matrix<T> parts(13, c);
    std::vector<T> last = first_row;
    Index first = 0;
    for (Index const count : split) {
      Matrix<T> const past = test::before_and_keep(x.rows_of(first, count), last);
      shift(x.rows_of(first, count), past.view(), parts.view().rows(first, count));
      first += count;
    }
    CHECK(parts == whole);
  }
}

TEST_CASE("token shift: shares of 0 and 1 give the token and the one before") {
  Random random(2);
  for (Index const c : {1, 2, 16, 37}) {
    Matrix<float> const x(3, c, random);
    auto const first_row = random.normals<float>(c);
    std::vector<float> mix;
    for (Index i = 0; i < c; ++i) mix.push_back(static_cast<float>(i % 2));
    TokenShift<float> const shift(mix);
    Matrix<float> y(3, c);
    shift(x.view(), before<float>(x.view(), first_row).view(), y.view());
    for (Index t = 0; t < 3; ++t)
      for (Index i = 0; i < c; ++i) {
        float const past = t > 0 ? x(t - 1, i) : first_row[to_size(i)];
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
  auto const first_row = random.normals<T>(c), shares = random.rates<T>(c);
  std::vector<T> rest;
  for (T const share : shares) rest.push_back(T(1) - share);
  Matrix<T> of_current(13, c), of_previous(13, c);
  TokenShift<T> const current(shares, ShareOf::current), previous(rest);
  Matrix<T> const past = before<T>(x.view(), first_row);
  current(x.view(), past.view(), of_current.view());
  previous(x.view(), past.view(), of_previous.view());
  CHECK(of_current == of_previous);
}

TEST_CASE("token shift: the form for one token") {
  Random random(4);
  Matrix<float> const x(1, 37, random);
  auto const first_row = random.normals<float>(37), shares = random.rates<float>(37);
  TokenShift<float> const shift(shares);
  Matrix<float> expected(1, 37);
  std::vector<float> y(37);
  shift(x.view(), before<float>(x.view(), first_row).view(), expected.view());
  shift(x.numbers, first_row, y);
  CHECK(y == expected.numbers);
}

TEST_CASE("packed: parts end after whole groups, and sequences may be empty") {
  struct State {
    Index number;
  };
  std::vector<State> states{{0}, {1}, {2}, {3}, {4}};
  std::vector<Index> const offsets{0, 0, 30, 31, 31, 60};
  Packed<State> const all(states, offsets);
  CHECK(all.rows() == 60);
  for (Index const most : {1, 5, 12, 13, 29, 31, 40, 59, 60, 100}) {
    CAPTURE(most);
    std::vector<Index> rows_of(5);
    Index next = 0;
    all.for_parts(most, [&](Index row, Packed<State> const& part) {
      CHECK(row == next);
      CHECK(part.rows() > 0);
      CHECK(part.rows() <= most);
      next += part.rows();
      Index rows = 0;
      for (Index s = part.first(); s < part.end(); ++s) {
        CHECK(part.state(s).number == s);
        CHECK(part.begin_of(s) == rows);
        Index const count = part.end_of(s) - part.begin_of(s);
        rows += count;
        rows_of[to_size(s)] += count;
        Index const length = offsets[to_size(s) + 1] - offsets[to_size(s)];
        CHECK(part.left_of(s) == length - rows_of[to_size(s)]);
        bool const cut = count > 0 && rows_of[to_size(s)] < length;
        if (cut && most >= tokens_of_whole_groups) CHECK(rows_of[to_size(s)] % tokens_of_whole_groups == 0);
      }
      CHECK(rows == part.rows());
    });
    CHECK(next == 60);
    CHECK(rows_of == std::vector<Index>{0, 30, 1, 0, 29});
  }
}
