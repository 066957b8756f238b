#include "aviary/layers/linear.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "support/allocation_counter.hpp"
#include "support/layer_case.hpp"

using namespace aviary;
using test::Matrix;
using test::Random;

namespace {

/// Whether y = x W^T within the bound of any order of summation: n eps sum |w||x|.
template <class T> bool within_bound(Matrix<T> const& y, Matrix<T> const& x, Matrix<T> const& w) {
  double const eps = static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;
  for (Index t = 0; t < x.rows; ++t)
    for (Index o = 0; o < w.rows; ++o) {
      long double sum = 0, size = 0;
      for (Index i = 0; i < w.columns; ++i) {
        long double const term = static_cast<long double>(w(o, i)) * static_cast<long double>(x(t, i));
        sum += term;
        size += std::abs(term);
      }
      double const bound = static_cast<double>(w.columns) * eps * static_cast<double>(size);
      if (!(static_cast<double>(std::abs(static_cast<long double>(y(t, o)) - sum)) <= bound)) return false;
    }
  return true;
}

}  // namespace

TEST_CASE_TEMPLATE("linear: the product of a plain loop, for all sizes around tiles and panels", T, float, double) {
  Random random(1);
  for (Index const in : {1, 2, 31, 32, 33, 63, 64, 65, 96, 130})
    for (Index const out : {1, 3, 8, 15, 16, 17, 33, 48, 63, 64, 65, 129, 200})
      for (Index const tokens : {1, 2, 3, 4, 5, 9}) {
        Matrix<T> const w(out, in, random), x(tokens, in, random);
        Matrix<T> y(tokens, out, std::numeric_limits<T>::quiet_NaN());
        Linear<T>(w.view())(x.view(), y.view());
        CAPTURE(in);
        CAPTURE(out);
        CAPTURE(tokens);
        CHECK(within_bound(y, x, w));
      }
}

TEST_CASE_TEMPLATE("linear: any split of the rows is the product of a plain loop", T, float, double) {
  Random random(2);
  for (Index const in : {7, 64, 100, 300})
    for (auto const& split : test::splits_of_13()) {
      Matrix<T> const w(150, in, random), x(13, in, random);
      Linear<T> const linear(w.view());
      Matrix<T> parts(13, 150);
      Index first = 0;
      for (Index const count : split) {
        linear(x.rows_of(first, count), parts.view().rows(first, count));
        first += count;
      }
      CHECK(within_bound(parts, x, w));
    }
}

TEST_CASE("linear: any executor gives the same bits") {
  Random random(3);
  Matrix<float> const w(1000, 700, random), x(9, 700, random);  // enough to be shared out
  Linear<float> const linear(w.view());
  Matrix<float> serial(9, 1000);
  linear(x.view(), serial.view());
  for (Index const tasks : {1, 2, 3, 7, 100}) {
    Matrix<float> shared(9, 1000);
    Index handed_out = 0;
    linear(x.view(), shared.view(), Parallel(tasks, [&](Index count, auto&& task) {
             handed_out = count;
             test::Backwards{}(count, task);
           }));
    CHECK(shared == serial);
    CHECK(handed_out <= tasks);
    CHECK((handed_out > 1) == (tasks > 1));
  }
}

TEST_CASE_TEMPLATE("linear: both layouts of the weights, and rows with a stride", T, float, double) {
  Random random(4);
  Matrix<T> const w(20, 40, random), x(5, 64, random);
  Matrix<T> transposed(40, 20);
  for (Index o = 0; o < 20; ++o)
    for (Index i = 0; i < 40; ++i) transposed(i, o) = w(o, i);
  MatView<T const> const narrow(x.numbers.data(), 5, 40, 64);
  Matrix<T> a(5, 20), b(5, 20);
  Linear<T>(w.view())(narrow, a.view());
  Linear<T>(transposed.view(), WeightFormat::full, WeightLayout::in_out)(narrow, b.view());
  CHECK(a == b);
  MatView<T const> const inner(w.numbers.data() + 3, 20, 30, 40);  // columns 3 to 32
  Linear<T> const narrower(inner);
  CHECK(narrower.in() == 30);
  narrower({x.numbers.data(), 5, 30, 64}, a.view());
  Matrix<T> cut(20, 30), x_cut(5, 30);
  for (Index o = 0; o < 20; ++o)
    for (Index i = 0; i < 30; ++i) cut(o, i) = w(o, i + 3);
  for (Index t = 0; t < 5; ++t)
    for (Index i = 0; i < 30; ++i) x_cut(t, i) = x(t, i);
  CHECK(within_bound(a, x_cut, cut));
}

TEST_CASE_TEMPLATE("linear: nothing beside the outputs is written", T, float, double) {
  Random random(5);
  for (Index const out : {1, 5, 17, 64, 70})
    for (Index const tokens : {1, 6}) {
      Matrix<T> const w(out, 33, random), x(tokens, 33, random);
      Matrix<T> guarded(tokens, out + 40, T(7));
      Linear<T>(w.view())(x.view(), {guarded.numbers.data() + 20, tokens, out, out + 40});
      for (Index t = 0; t < tokens; ++t)
        for (Index i = 0; i < 20; ++i) {
          CHECK(guarded(t, i) == T(7));
          CHECK(guarded(t, out + 20 + i) == T(7));
        }
    }
}

TEST_CASE("linear: NaN and infinity in one row stay in it") {
  Random random(6);
  Matrix<float> const w(40, 64, random);
  Matrix<float> x(5, 64, random);
  x(2, 10) = std::numeric_limits<float>::quiet_NaN();
  Matrix<float> y(5, 40);
  Linear<float>(w.view())(x.view(), y.view());
  for (Index t = 0; t < 5; ++t)
    for (Index o = 0; o < 40; ++o) CHECK(std::isnan(y(t, o)) == (t == 2));
}

TEST_CASE("linear: products allocate nothing") {
  Random random(7);
  Matrix<float> const w(512, 512, random), x(64, 512, random);
  Matrix<float> y(64, 512);
  Linear<float> const linear(w.view());
  test::AllocationCounter const allocations;
  linear(x.view(), y.view());
  linear(x.rows_of(0, 1), y.view().rows(0, 1));
  CHECK(allocations.count() == 0);
}
