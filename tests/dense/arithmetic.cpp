#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "aviary/dense/linear.hpp"
#include "support/layer_case.hpp"

using namespace aviary;
using test::Matrix;
using test::Random;

namespace {

/// The weights (out, in) as a layer keeps them: an input alone reads a column.
Matrix<float> kept(Matrix<float> const& w, NumberFormat format) {
  Matrix<float> identity(w.columns, w.columns), columns(w.columns, w.rows), to(w.rows, w.columns);
  for (Index i = 0; i < w.columns; ++i) identity(i, i) = 1;
  Linear<float>(w.view(), format)(identity.view(), columns.view());
  for (Index o = 0; o < w.rows; ++o)
    for (Index i = 0; i < w.columns; ++i) to(o, i) = columns(i, o);
  return to;
}

/// The largest error of a product with weights in a format over its bound: of the inputs' roundings, which bound(x, t, i)
/// gives for each, and of summation.
template <class Bound>
double worst(WeightFormat format, NumberFormat number, Matrix<float> const& w, Matrix<float> const& x, Bound bound) {
  Matrix<float> const stored = kept(w, number);
  Matrix<float> y(x.rows, w.rows);
  Linear<float>(w.view(), format)(x.view(), y.view());
  double const eps = std::numeric_limits<float>::epsilon() / 2;
  double most = 0;
  for (Index t = 0; t < x.rows; ++t)
    for (Index o = 0; o < w.rows; ++o) {
      double sum = 0, allowed = 1e-37;
      for (Index i = 0; i < w.columns; ++i) {
        double const weight = stored(o, i);
        sum += weight * x(t, i);
        allowed += std::abs(weight) * (bound(x, t, i) + static_cast<double>(w.columns + 8) * eps *
                                                            (std::abs(static_cast<double>(x(t, i))) + bound(x, t, i)));
      }
      most = std::max(most, std::abs(y(t, o) - sum) / allowed);
    }
  return most;
}

/// Half a step of the group that input i of row t belongs to.
double half_step(Matrix<float> const& x, Index t, Index i) {
  double most = 0;
  for (Index j = i / 32 * 32; j < std::min(x.columns, i / 32 * 32 + 32); ++j)
    most = std::max(most, std::abs(static_cast<double>(x(t, j))));
  return most / 127 / 2 * (1 + 0x1p-16);
}

}  // namespace

TEST_CASE("arithmetic: the error of every kind is within its bound") {
  Random random(3);
  for (Index const in : {1, 33, 64, 300, 1100})
    for (Index const tokens : {1, 3, 40}) {
      Matrix<float> const w(40, in, random);
      Matrix<float> x(tokens, in, random);
      for (Index t = 0; t < tokens; ++t) x(t, in / 2) *= 20;
      auto const relative = [](double e) {
        return [e](Matrix<float> const& m, Index t, Index i) { return e * std::abs(static_cast<double>(m(t, i))); };
      };
      CAPTURE(in);
      CAPTURE(tokens);
      using enum Arithmetic;
      for (NumberFormat const format : {NumberFormat::q8, NumberFormat::q4}) {
        CHECK(worst({format, bits8}, format, w, x, half_step) <= 1);
        CHECK(worst({format, bits16}, format, w, x, relative(0x1p-7 + 0x1p-16)) <= 1);
      }
      CHECK(worst({NumberFormat::bf16, bits16}, NumberFormat::bf16, w, x, relative(0x1p-16)) <= 1);
      CHECK(worst({NumberFormat::bf16, bits8}, NumberFormat::bf16, w, x, relative(0x1p-8)) <= 1);
      for (Arithmetic const any : {bits16, bits8})
        CHECK(worst(WeightFormat::full.with(any), NumberFormat::f32, w, x, relative(0)) <= 1);
    }
}

TEST_CASE("arithmetic: groups of zeros, of the smallest and of the largest numbers") {
  Random random(4);
  constexpr float largest = 0x1p-12f;  // where floats are multiplied, sums of 127 steps times 16 of them stay finite
  Matrix<float> const w(33, 128, random, 0.01);
  Matrix<float> x(20, 128, random);
  for (Index t = 0; t < 20; ++t)
    for (Index i = 0; i < 128; ++i)
      x(t, i) = i < 32   ? 0
                : i < 64 ? std::numeric_limits<float>::denorm_min() * static_cast<float>(i)
                : i < 96 ? x(t, i)
                         : std::copysign(std::numeric_limits<float>::max(), x(t, i)) * (i % 2 == 0 ? largest : 0);
  for (NumberFormat const format : {NumberFormat::q8, NumberFormat::q4})
    CHECK(worst({format, Arithmetic::bits8}, format, w, x, half_step) <= 1);
  Matrix<float> const zeros(20, 128);
  Matrix<float> y(20, 33, 7);
  for (NumberFormat const format : {NumberFormat::q8, NumberFormat::q4, NumberFormat::bf16}) {
    Linear<float>(w.view(), {format, Arithmetic::bits8})(zeros.view(), y.view());
    CHECK(y == Matrix<float>(20, 33));
  }
}

TEST_CASE("arithmetic: a layer of double has one") {
  Random random(5);
  Matrix<double> const w(40, 70, random), x(3, 70, random);
  Matrix<double> y(3, 40), other(3, 40);
  for (NumberFormat const format : {NumberFormat::bf16, NumberFormat::q8, NumberFormat::q4}) {
    Linear<double>(w.view(), format)(x.view(), y.view());
    Linear<double>(w.view(), {format, Arithmetic::bits8})(x.view(), other.view());
    CHECK(y == other);
  }
}

TEST_CASE("arithmetic: a row has the same bits alone, among few and among many") {
  Random random(6);
  Matrix<float> const w(72, 600, random), x(150, 600, random);
  for (NumberFormat const format : {NumberFormat::bf16, NumberFormat::q8, NumberFormat::q4})
    for (Arithmetic const arithmetic : all_arithmetics) {
      CAPTURE(name_of(format));
      CAPTURE(name_of(arithmetic));
      Linear<float> const linear(w.view(), {format, arithmetic});
      Matrix<float> whole(150, 72), parts(150, 72);
      linear(x.view(), whole.view());
      Index first = 0;
      for (Index const count : {1, 2, 8, 10, 13, 17, 32, 67}) {
        linear(x.rows_of(first, count), parts.view().rows(first, count));
        first += count;
      }
      CHECK(first == 150);
      CHECK(whole == parts);
    }
}
