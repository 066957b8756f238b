#include "aviary/dense/linear.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "aviary/simd/instruction_sets.hpp"
#include "support/allocation_counter.hpp"
#include "support/layer_case.hpp"

using namespace aviary;
using test::Matrix;
using test::Random;

namespace {

constexpr std::array<WeightFormat, 12> all_formats{WeightFormat::exact,
                                                   WeightFormat::full,
                                                   NumberFormat::bf16,
                                                   NumberFormat::f16,
                                                   NumberFormat::q8,
                                                   NumberFormat::q4,
                                                   WeightFormat(NumberFormat::bf16, Arithmetic::bits16),
                                                   WeightFormat(NumberFormat::bf16, Arithmetic::bits8),
                                                   WeightFormat(NumberFormat::q8, Arithmetic::bits16),
                                                   WeightFormat(NumberFormat::q8, Arithmetic::bits8),
                                                   WeightFormat(NumberFormat::q4, Arithmetic::bits16),
                                                   WeightFormat(NumberFormat::q4, Arithmetic::bits8)};

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

TEST_CASE_TEMPLATE("linear: any split of the rows gives the same bits", T, float, double) {
  Random random(2);
  for (Index const in : {7, 64, 100, 300})
    for (WeightFormat const format : all_formats) {
      Matrix<T> const w(150, in, random), x(13, in, random);
      Linear<T> const linear(w.view(), format);
      Matrix<T> whole(13, 150), parts(13, 150);
      linear(x.view(), whole.view());
      for (auto const& split : test::splits_of_13()) {
        std::fill(parts.numbers.begin(), parts.numbers.end(), T(0));
        Index first = 0;
        for (Index const count : split) {
          linear(x.rows_of(first, count), parts.view().rows(first, count));
          first += count;
        }
        CHECK(parts == whole);
      }
    }
}

TEST_CASE("linear: the kernel of every instruction set is the product of a plain loop") {
  Random random(8);
  Matrix<float> const w(96, 300, random), x(15, 300, random);
  detail::NumberPanels<float> panels(300, 3);
  for (Index p = 0; p < 3; ++p) panels.set(p, w.rows_of(32 * p, 32).data());
  simd::for_each_instruction_set<float>([&](auto set) {
    CAPTURE(set.name);
    for (Index const tokens : {1, 15}) {
      Matrix<float> const some(tokens, 300, random);
      Matrix<float> y(tokens, 96);
      detail::PanelProduct<typename decltype(set)::Pack>::run(panels, some.view(), y.view(), 0, 3);
      CHECK(within_bound(y, some, w));
    }
  });
}

TEST_CASE_TEMPLATE("linear: weights kept in 16 bits are rounded once, and summed like others", S, bf16, f16) {
  Random random(9);
  constexpr WeightFormat format = std::is_same_v<S, bf16> ? NumberFormat::bf16 : NumberFormat::f16;
  Matrix<float> const w(70, 100, random), x(5, 100, random);
  std::vector<S> narrowed(w.numbers.size());
  Matrix<float> rounded(70, 100), expected(5, 70), y(5, 70);
  convert(w.numbers.data(), narrowed.data(), 7000);
  convert(narrowed.data(), rounded.numbers.data(), 7000);
  Linear<float>(rounded.view(), WeightFormat::full)(x.view(), expected.view());
  MatView<S const> const stored(narrowed.data(), 70, 100);
  for (Linear<float> const& linear : {Linear<float>(w.view(), format), Linear<float>(stored, format),
                                      Linear<float>(stored), Linear<float>(rounded.view())}) {
    Index const inputs = std::is_same_v<S, bf16> ? 128 : 100;  // words come in groups of 32 inputs
    CHECK(linear.bytes() == to_size(2 * inputs * 96));         // three panels of 32
    linear(x.view(), y.view());
    CHECK(y == expected);
  }
}

TEST_CASE("linear: no number is lost without being told to") {
  Random random(10);
  Matrix<float> w(64, 300, random, 0);
  CHECK(Linear<float>(w.view()).bytes() == 2 * 64 * 320);
  w(63, 299) = 1 + 0x1p-10f;  // f16, but not bf16
  CHECK(Linear<float>(w.view()).bytes() == 2 * 64 * 300);
  w(0, 0) = 0x1p-30f;  // bf16, but not f16
  CHECK(Linear<float>(w.view()).bytes() == 4 * 64 * 300);
  Matrix<float> const x(1, 300, 1);
  Matrix<float> y(1, 64);
  Linear<float>(w.view())(x.view(), y.view());
  CHECK(y(0, 0) == 0x1p-30f);
  CHECK(y(0, 63) == 1 + 0x1p-10f);
}

TEST_CASE_TEMPLATE("linear: 8-bit weights are within half a step of those given", T, float, double) {
  Random random(11);
  for (Index const in : {1, 31, 32, 33, 200}) {
    Matrix<T> w(40, in, random);
    for (Index o = 0; o < 40; ++o)
      for (Index i = 0; i < in; ++i) w(o, i) *= std::pow(T(10), static_cast<T>(o % 8 * 4 - 20));
    Linear<T> const linear(w.view(), NumberFormat::q8);
    for (Index i = 0; i < in; ++i) {  // one input alone reads one column of the weights
      Matrix<T> x(1, in), y(1, 40);
      x(0, i) = 1;
      linear(x.view(), y.view());
      for (Index o = 0; o < 40; ++o) {
        T most = 0;
        for (Index j = i / 32 * 32; j < std::min(in, i / 32 * 32 + 32); ++j) most = std::max(most, std::abs(w(o, j)));
        CHECK(std::abs(y(0, o) - w(o, i)) <= most / 127 * T(1 + 0x1p-7) * T(0.5 + 1e-4));
      }
    }
  }
}

TEST_CASE_TEMPLATE(
    "linear: 4-bit weights have no larger sum of squared errors than by the plain rule, -8 steps for the largest", T,
    float, double) {
  Random random(14);
  for (Index const in : {1, 7, 32, 33, 200}) {
    Matrix<T> w(40, in, random);
    for (Index o = 0; o < 40; ++o)
      for (Index i = 0; i < in; ++i) w(o, i) *= std::pow(T(10), static_cast<T>(o % 8 * 4 - 20));
    Matrix<T> identity(in, in), y(in, 40);
    for (Index i = 0; i < in; ++i) identity(i, i) = 1;
    Linear<T> const linear(w.view(), NumberFormat::q4);
    CHECK(linear.bytes() == to_size((in + 31) / 32 * 64 * (16 + 2)));
    linear(identity.view(), y.view());
    for (Index o = 0; o < 40; ++o)
      for (Index first = 0; first < in; first += 32) {
        T most = 0, chosen = 0, plain = 0;
        Index const last = std::min(in, first + 32);
        for (Index i = first; i < last; ++i)
          if (std::abs(w(o, i)) > std::abs(most)) most = w(o, i);
        T const scale = static_cast<T>(widen(narrow<bf16>(static_cast<float>(most) / -8)));
        for (Index i = first; i < last; ++i) {
          T const steps = std::clamp(std::nearbyint(w(o, i) / scale), T(-8), T(7));
          plain += (steps * scale - w(o, i)) * (steps * scale - w(o, i)) / most / most;
          chosen += (y(i, o) - w(o, i)) * (y(i, o) - w(o, i)) / most / most;
        }
        CHECK(chosen <= plain * T(1 + 1e-4) + T(1e-12));
      }
  }
}

TEST_CASE("linear: 8-bit and 4-bit weights of 0 and next to 0 are 0, others that are not finite are refused") {
  for (NumberFormat const format : {NumberFormat::q8, NumberFormat::q4}) {
    Matrix<float> w(40, 64);
    w(3, 5) = 1e-41f;
    Matrix<float> const x(1, 64, 1);
    Matrix<float> y(1, 40, 7);
    Linear<float>(w.view(), format)(x.view(), y.view());
    CHECK(y == Matrix<float>(1, 40));
    w(3, 5) = std::numeric_limits<float>::max();
    Linear<float>(w.view(), format)(x.view(), y.view());
    CHECK(y(0, 3) == doctest::Approx(w(3, 5)).epsilon(format == NumberFormat::q8 ? 0.005 : 0.06));
    for (float const bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      w(3, 5) = bad;
      CHECK_THROWS_AS(Linear<float>(w.view(), format), std::invalid_argument);
    }
  }
}

TEST_CASE("linear: any executor gives the same bits") {
  Random random(3);
  Matrix<float> const w(1000, 700, random), x(13, 700, random);  // enough to be shared out
  for (WeightFormat const format : all_formats) {
    Linear<float> const linear(w.view(), format);
    Matrix<float> serial(13, 1000);
    linear(x.view(), serial.view());
    for (Index const tasks : {1, 2, 3, 7, 100}) {
      Matrix<float> shared(13, 1000);
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
  Linear<T>(transposed.view(), WeightFormat::exact, WeightLayout::in_out)(narrow, b.view());
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
  for (WeightFormat const format : all_formats)
    for (Index const out : {1, 5, 17, 64, 70})
      for (Index const tokens : {1, 6, 17}) {
        Matrix<T> const w(out, 33, random), x(tokens, 33, random);
        Matrix<T> guarded(tokens, out + 40, T(7));
        Linear<T>(w.view(), format)(x.view(), {guarded.numbers.data() + 20, tokens, out, out + 40});
        for (Index t = 0; t < tokens; ++t)
          CHECK((std::count(&guarded(t, 0), &guarded(t, 20), T(7)) == 20 &&
                 std::count(&guarded(t, out + 20), &guarded(t, out + 39) + 1, T(7)) == 20));
      }
}

TEST_CASE("linear: NaN and infinity in one row stay in it, and are in all of its outputs") {
  Random random(6);
  Matrix<float> const w(40, 64, random);
  for (WeightFormat const format : all_formats)
    for (Index const tokens : {5, 20})
      for (float const bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
        Matrix<float> x(tokens, 64, random);
        x(2, 10) = bad;
        Matrix<float> y(tokens, 40);
        Linear<float>(w.view(), format)(x.view(), y.view());
        for (Index t = 0; t < tokens; ++t)
          for (Index o = 0; o < 40; ++o) CHECK(std::isfinite(y(t, o)) == (t != 2));
      }
}

TEST_CASE("linear: products allocate nothing") {
  Random random(7);
  Matrix<float> const w(512, 512, random), x(64, 512, random);
  Matrix<float> y(64, 512);
  for (WeightFormat const format : all_formats) {
    Linear<float> const linear(w.view(), format);
    test::AllocationCounter const allocations;
    linear(x.view(), y.view());
    linear(x.rows_of(0, 1), y.view().rows(0, 1));
    CHECK(allocations.count() == 0);
  }
}

TEST_CASE_TEMPLATE("linear: without inputs outputs are 0, and without tokens nothing happens", T, float, double) {
  Matrix<T> const none(0, 0);
  for (WeightFormat const format : all_formats) {
    Linear<T> const linear(MatView<T const>(none.numbers.data(), 40, 0), format);
    for (Index const tokens : {0, 1, 3, 20}) {
      Matrix<T> y(tokens, 40, T(7));
      linear(MatView<T const>(none.numbers.data(), tokens, 0), y.view());
      CHECK(y == Matrix<T>(tokens, 40));
    }
  }
}

TEST_CASE("weight format: a layer keeps its own numbers, bf16, f16 or q8") {
  float const one = 1;
  MatView<float const> const w(&one, 1, 1);
  CHECK(WeightFormat(NumberFormat::f32).resolve<float>(w) == NumberFormat::f32);
  CHECK(WeightFormat::full.resolve<double>(w) == NumberFormat::f64);
  CHECK(WeightFormat::exact.resolve<double>(w) == NumberFormat::bf16);
  for (NumberFormat const other : {NumberFormat::f64, NumberFormat::i64, NumberFormat::i32, NumberFormat::u8})
    CHECK_THROWS_AS(Linear<float>(w, other), std::invalid_argument);
  CHECK_THROWS_WITH(Linear<double>(w, NumberFormat::f32),
                    "aviary: a layer of f64 keeps its weights as f64, bf16, f16, q8 or q4, not as f32");
}

TEST_CASE_TEMPLATE("linear: a bias is added to the product, in any format and with any executor", T, float, double) {
  Random random(12);
  for (WeightFormat const format : all_formats)
    for (Index const out : {1, 31, 64, 200}) {
      Matrix<T> const w(out, 300, random), bias(1, out, random);
      Linear<T> const plain(w.view(), format), linear(w.view(), bias.view()[0], format);
      CHECK(linear.bytes() == plain.bytes() + to_size(out) * sizeof(T));
      for (Index const tokens : {1, 9}) {
        Matrix<T> const x(tokens, 300, random);
        Matrix<T> guarded(tokens, out + 2, T(7)), expected(tokens, out);
        plain(x.view(), expected.view());
        for (Index t = 0; t < tokens; ++t)
          for (Index o = 0; o < out; ++o) expected(t, o) += bias(0, o);
        for (Index const tasks : {1, 3}) {
          MatView<T> const y(guarded.numbers.data() + 1, tokens, out, out + 2);
          linear(x.view(), y, test::Backwards{tasks});
          for (Index t = 0; t < tokens; ++t) {
            CHECK(std::equal(y[t].begin(), y[t].end(), expected.view()[t].begin()));
            CHECK(guarded(t, 0) == T(7));
            CHECK(guarded(t, out + 1) == T(7));
          }
        }
      }
    }
}

TEST_CASE("linear: a bias in the other layout, and one of a wrong size") {
  Random random(13);
  Matrix<float> const w(5, 7, random), x(2, 5, random), bias(1, 7, random);
  Matrix<float> y(2, 7), plain(2, 7);
  Linear<float>(w.view(), WeightFormat::full, WeightLayout::in_out)(x.view(), plain.view());
  Linear<float>(w.view(), bias.view()[0], WeightFormat::full, WeightLayout::in_out)(x.view(), y.view());
  for (Index t = 0; t < 2; ++t)
    for (Index o = 0; o < 7; ++o) CHECK(y(t, o) == plain(t, o) + bias(0, o));
  CHECK_THROWS_WITH_AS(Linear<float>(w.view(), bias.view()[0]), "aviary: Linear: bias is 7, expected 5",
                       std::invalid_argument);
}
