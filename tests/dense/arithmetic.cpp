#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "aviary/dense/linear.hpp"
#include "aviary/simd/instruction_sets.hpp"
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

/// (in, out) weights as panels of S.
template <class S> detail::WordPanels<S> panels_of(Matrix<float> const& w) {
  detail::WordPanels<S> panels(w.columns, (w.rows + 31) / 32);
  for (Index p = 0; p < (w.rows + 31) / 32; ++p) {
    Matrix<float> panel(w.columns, 32);
    for (Index i = 0; i < w.columns; ++i)
      for (Index o = 0; o < 32 && p * 32 + o < w.rows; ++o) panel(i, o) = w(p * 32 + o, i);
    panels.set(p, panel.numbers.data());
  }
  return panels;
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

TEST_CASE_TEMPLATE("arithmetic: whole numbers are multiplied exactly, by every unit", S, q8, q4) {
  Random random(1);
  constexpr bool is_q4 = std::is_same_v<S, q4>;
  for (Index const in : {1, 31, 32, 33, 64, 300})
    for (Index const tokens : {1, 2, 3, 7, 13, 31, 40, 70}) {
      // Steps that begin with the largest of each group: the scales are powers of 2, and every sum is below 2^24.
      Matrix<float> w(70, in), x(tokens, in);
      for (Index o = 0; o < 70; ++o)
        for (Index i = 0; i < in; ++i)
          w(o, i) = (is_q4 ? (i % 32 == 0 ? -8.f : static_cast<float>(random.below(16) - 8))
                           : (i % 32 == 0 ? 127.f : static_cast<float>(random.below(255) - 127))) *
                    (o % 2 == 0 ? 1.f : 0.5f);
      for (Index t = 0; t < tokens; ++t)
        for (Index i = 0; i < in; ++i)
          x(t, i) = (i % 32 == 0 ? -127.f : static_cast<float>(random.below(255) - 127)) * (t % 2 == 0 ? 4.f : 1.f);
      Matrix<float> expected(tokens, 70), y(tokens, 70);
      for (Index t = 0; t < tokens; ++t)
        for (Index o = 0; o < 70; ++o) {
          double sum = 0;
          for (Index i = 0; i < in; ++i) sum += static_cast<double>(w(o, i)) * static_cast<double>(x(t, i));
          expected(t, o) = static_cast<float>(sum);
        }
      CAPTURE(in);
      CAPTURE(tokens);
      auto const panels = panels_of<S>(w);
      simd::for_each_instruction_set<float>([&](auto set) {
        CAPTURE(std::string(set.name));
        using Product = detail::StepProduct<typename decltype(set)::Pack>;
        for (bool const tiles : {false, simd::tiles_granted()}) {
          std::fill(y.numbers.begin(), y.numbers.end(), 7.f);
          Product::run(panels, x.view(), y.view(), 0, 3, tiles);
          CHECK(y == expected);
        }
      });
    }
}

TEST_CASE_TEMPLATE("arithmetic: with and without a matrix unit a row has the same bits, alone and among others", S, q8,
                   q4) {
  Random random(2);
  for (Index const in : {50, 700, 2500}) {
    Matrix<float> const w(64, in, random), x(70, in, random);
    Matrix<float> whole(70, 64), y(70, 64);
    auto const panels = panels_of<S>(w);
    using Product = detail::StepProduct<simd::Native<float>>;
    Product::run(panels, x.view(), whole.view(), 0, 2, false);
    Product::run(panels, x.view(), y.view(), 0, 2, simd::tiles_granted());
    CHECK(y == whole);
    for (Index const count : {1, 5, 16, 33})
      for (Index first = 0; first + count <= 70; first += count) {
        Matrix<float> part(count, 64);
        Product::run(panels, x.rows_of(first, count), part.view(), 0, 2);
        CHECK(std::equal(part.numbers.begin(), part.numbers.end(), &whole(first, 0)));
      }
  }
}

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
        CHECK(worst({format, bits16}, format, w, x, relative(0x1p-16)) <= 1);
      }
      CHECK(worst({NumberFormat::bf16, bits16}, NumberFormat::bf16, w, x, relative(0x1p-16)) <= 1);
      CHECK(worst({NumberFormat::bf16, bits8}, NumberFormat::bf16, w, x, relative(0x1p-8)) <= 1);
      for (Arithmetic const any : {bits16, bits8})
        CHECK(worst(WeightFormat::full.with(any), NumberFormat::f32, w, x, relative(0)) <= 1);
    }
}

TEST_CASE("arithmetic: groups of zeros, of the smallest and of the largest numbers") {
  Random random(4);
  Matrix<float> const w(33, 128, random, 0.01);
  Matrix<float> x(20, 128, random);
  for (Index t = 0; t < 20; ++t)
    for (Index i = 0; i < 128; ++i)
      x(t, i) = i < 32   ? 0
                : i < 64 ? std::numeric_limits<float>::denorm_min() * static_cast<float>(i)
                : i < 96 ? x(t, i)
                         : std::copysign(std::numeric_limits<float>::max(), x(t, i)) * (i % 2 == 0 ? 0x1p-7f : 0);
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
