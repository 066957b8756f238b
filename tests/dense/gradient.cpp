/// Gradients of linear and low-rank maps against sums written out.
#include "aviary/dense/gradient.hpp"

#include <doctest/doctest.h>

#include "aviary/dense/low_rank.hpp"
#include "support/allocation_counter.hpp"
#include "support/check.hpp"
#include "support/layer_case.hpp"

using namespace aviary;
using test::check_close;
using test::check_equal;
using test::Matrix;
using test::Random;

namespace {

/// A sum of n products is within n eps of the sum of their sizes, which is about sqrt(n) times the largest sum here.
template <class T> constexpr double bound = std::is_same_v<T, float> ? 3e-6 : 1e-14;

/// a b, and what was there, in double.
template <class T, class S>
std::vector<double> plus_product(Matrix<T> const& c, Matrix<T> const& a, Matrix<S> const& b) {
  std::vector<double> sum(c.numbers.begin(), c.numbers.end());
  for (Index i = 0; i < c.rows; ++i)
    for (Index j = 0; j < c.columns; ++j)
      for (Index l = 0; l < a.columns; ++l)
        sum[to_size(i * c.columns + j)] += static_cast<double>(a(i, l)) * static_cast<double>(widen(b(l, j)));
  return sum;
}
template <class S> Matrix<S> transposed(Matrix<S> const& x) {
  Matrix<S> to(x.columns, x.rows, S{});
  for (Index i = 0; i < x.rows; ++i)
    for (Index j = 0; j < x.columns; ++j) to(j, i) = x(i, j);
  return to;
}
/// The numbers as they are stored in another type.
template <class S, class T> Matrix<S> stored(Matrix<T> const& x) {
  Matrix<S> to(x.rows, x.columns, S{});
  convert(x.numbers.data(), to.numbers.data(), x.rows * x.columns);
  return to;
}

template <class T, class S, class E = Serial>
Matrix<T> input_gradient(Matrix<S> const& w, WeightLayout layout, Matrix<T> const& dy, Matrix<T> dx,
                         E&& executor = {}) {
  add_input_gradient<T>(w.view(), layout, dy.view(), dx.view(), executor);
  return dx;
}

/// Central differences of a loss with respect to each number. Within step^2 times the third derivatives, of order 1 to
/// 100, and 1e-16 / step.
template <class Loss> std::vector<double> differences(Matrix<double>& of, Loss const& loss) {
  constexpr double step = 1e-5;
  std::vector<double> d;
  for (double& e : of.numbers) {
    double const at = e;
    e = at + step;
    double const more = loss();
    e = at - step;
    d.push_back((more - loss()) / (2 * step));
    e = at;
  }
  return d;
}
/// The sum of y dy.
double product(Matrix<double> const& y, Matrix<double> const& dy) {
  double sum = 0;
  for (std::size_t i = 0; i < y.numbers.size(); ++i) sum += y.numbers[i] * dy.numbers[i];
  return sum;
}

}  // namespace

TEST_CASE_TEMPLATE("gradient: of inputs, for sizes around tiles, both layouts and any storage of weights", T, float,
                   double) {
  Random random(1);
  for (auto const& [tokens, in, out] :
       {std::array<Index, 3>{1, 1, 1}, {3, 64, 64}, {5, 63, 65}, {130, 70, 9}, {2, 130, 129}, {0, 5, 6}, {4, 3, 0}}) {
    test::Note const notes[]{{"tokens", tokens}, {"in", in}, {"out", out}};
    Matrix<T> const w(out, in, random), dy(tokens, out, random), dx(tokens, in, random);
    Matrix<bf16> const half = stored<bf16>(w);
    if (tokens > 0) {
      check_close(input_gradient(w, WeightLayout::out_in, dy, dx).numbers, plus_product(dx, dy, w), bound<T>);
      check_close(input_gradient(half, WeightLayout::out_in, dy, dx).numbers, plus_product(dx, dy, half), bound<T>);
    }
    Matrix<T> const expected = input_gradient(w, WeightLayout::out_in, dy, dx);
    CHECK(input_gradient(transposed(w), WeightLayout::in_out, dy, dx) == expected);
    for (Index const tasks : {2, 3, 7})
      CHECK(input_gradient(w, WeightLayout::out_in, dy, dx, test::Backwards{tasks}) == expected);
  }
}

TEST_CASE_TEMPLATE("gradient: of weights, for sizes around blocks of rows", T, float, double) {
  Random random(2);
  for (auto const& [tokens, in, out] :
       {std::array<Index, 3>{1, 1, 1}, {5, 63, 65}, {128, 7, 9}, {300, 33, 5}, {0, 5, 6}}) {
    test::Note const notes[]{{"tokens", tokens}, {"in", in}, {"out", out}};
    Matrix<T> const x(tokens, in, random), dy(tokens, out, random), dw(out, in, random);
    Matrix<T> sum = dw;
    add_weight_gradient<T>(dy.view(), x.view(), sum.view());
    check_close(sum.numbers, plus_product(dw, transposed(dy), x), bound<T>);
    for (Index const tasks : {2, 3, 7}) {
      Matrix<T> shared = dw;
      add_weight_gradient<T>(dy.view(), x.view(), shared.view(), test::Backwards{tasks});
      CHECK(shared == sum);
    }
    add_weight_gradient<T>(dy.view(), x.view(), {});  // not wanted
  }
}

TEST_CASE("gradient: it does not allocate, and writes nothing beside the gradient") {
  Random random(3);
  Matrix<float> const w(70, 40, random), dy(9, 70, random), x(9, 40, random);
  Matrix<float> around(11, 60, -7), dw(70, 40);
  MatView<float> const dx(&around(1, 10), 9, 40, 60);
  test::AllocationCounter const allocations;
  add_input_gradient<float>(w.view(), WeightLayout::out_in, dy.view(), dx);
  add_weight_gradient<float>(dy.view(), x.view(), dw.view());
  CHECK(allocations.count() == 0);
  Matrix<float> const expected = input_gradient(w, WeightLayout::out_in, dy, Matrix<float>(9, 40, -7));
  std::vector<float> frame(11 * 60, -7);
  for (Index t = 0; t < 9; ++t) std::copy_n(&expected(t, 0), 40, &frame[to_size((t + 1) * 60 + 10)]);
  check_equal(around.numbers, frame);
}

TEST_CASE("gradient: of a low-rank map, by central differences") {
  Random random(4);
  Matrix<double> first(7, 3, random), second(3, 5, random), x(4, 7, random), dy(4, 5, random);
  auto const loss = [&] {
    LowRank<double> const map(first.view(), second.view(), WeightFormat::full);
    Scratch<double> scratch(4 * map.scratch_size());
    Matrix<double> y(4, 5);
    map(x.view(), activation::tanh, y.view(), scratch);
    return product(y, dy);
  };
  LowRank<double> const map(first.view(), second.view(), WeightFormat::full);
  Scratch<double> scratch(4 * map.scratch_size());
  Matrix<double> hidden(4, 3), y(4, 5), dx(4, 7), dfirst(7, 3), dsecond(3, 5);
  map(x.view(), activation::tanh, hidden.view(), y.view());
  map.backward(first.view(), second.view(), x.view(), hidden.view(), detail::pull_tanh, dy.view(), dx.view(),
               {dfirst.view(), dsecond.view()}, scratch);
  check_close(dx.numbers, differences(x, loss), 1e-8);
  check_close(dfirst.numbers, differences(first, loss), 1e-8);
  check_close(dsecond.numbers, differences(second, loss), 1e-8);
}

TEST_CASE("gradient: of a low-rank decay, by central differences, where a decay is 0 and where nothing is wanted") {
  Random random(5);
  Matrix<double> base(1, 5, random), w1(7, 3, random, 0.5), w2(3, 5, random, 0.5), x(4, 7, random), dy(4, 5, random);
  base(0, 2) = 30;  // exp(-exp(30)) is 0, and the memory that reads it has no gradient: 0 with any dy
  for (Index t = 0; t < 4; ++t) dy(t, 2) = 0;
  auto const loss = [&] {
    LowRankDecay<double> const map(base.view()[0], w1.view(), w2.view(), WeightFormat::full);
    Scratch<double> scratch(4 * map.scratch_size());
    Matrix<double> y(4, 5);
    map(x.view(), y.view(), scratch);
    return product(y, dy);
  };
  LowRankDecay<double> const map(base.view()[0], w1.view(), w2.view(), WeightFormat::full);
  Scratch<double> scratch(4 * map.scratch_size());
  Index const left = scratch.left();
  Matrix<double> hidden(4, map.rank()), y(4, 5), dx(4, 7), dbase(1, 5), dw1(7, 3), dw2(3, 5), used = dy, alone(4, 7);
  map(x.view(), hidden.view(), y.view());
  for (Index t = 0; t < 4; ++t) used(t, 2) = 1e300;
  map.backward(w1.view(), w2.view(), x.view(), hidden.view(), y.view(), used.view(), dx.view(),
               {dbase.view()[0], dw1.view(), dw2.view()}, scratch);
  check_close(dx.numbers, differences(x, loss), 1e-8);
  check_close(dbase.numbers, differences(base, loss), 1e-8);
  check_close(dw1.numbers, differences(w1, loss), 1e-8);
  check_close(dw2.numbers, differences(w2, loss), 1e-8);
  used = dy;
  map.backward(w1.view(), w2.view(), x.view(), hidden.view(), y.view(), used.view(), alone.view(), {}, scratch);
  CHECK(alone == dx);
  CHECK(scratch.left() == left);
}
