/// The cross-entropy of logits, and of a head in stretches, against sums in double and central differences.
#include "aviary/training/loss.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "support/allocation_counter.hpp"
#include "support/check.hpp"
#include "support/layer_case.hpp"

using namespace aviary;
using test::check_close;
using test::check_equal;
using test::check_that;
using test::Matrix;
using test::Random;

namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
/// Sums of 512 exponentials, and a few roundings, whatever the lanes.
template <class T> constexpr double bound = 522 * static_cast<double>(std::numeric_limits<T>::epsilon());

/// From the definition, in double.
struct Expected {
  std::vector<double> losses, gradients;
  Loss loss;
};
template <class T> Expected expected(Matrix<T> const& logits, std::vector<int> const& targets, double scale) {
  Expected to;
  for (Index t = 0; t < logits.rows; ++t) {
    int const target = targets[to_size(t)];
    double most = -infinity, sum = 0;
    for (Index v = 0; v < logits.columns; ++v) most = std::max(most, static_cast<double>(logits(t, v)));
    for (Index v = 0; v < logits.columns; ++v) sum += std::exp(static_cast<double>(logits(t, v)) - most);
    for (Index v = 0; v < logits.columns; ++v) {
      double const chance = std::exp(static_cast<double>(logits(t, v)) - most) / sum;
      to.gradients.push_back(target < 0 ? 0 : scale * (chance - (v == target ? 1 : 0)));
    }
    to.losses.push_back(target < 0 ? 0 : most + std::log(sum) - static_cast<double>(logits(t, target)));
    to.loss.sum += to.losses.back();
    to.loss.tokens += target >= 0;
  }
  return to;
}

std::vector<int> some_targets(Index tokens, Index vocabulary, Random& random) {
  std::vector<int> targets;
  for (Index t = 0; t < tokens; ++t) targets.push_back(t % 5 == 3 ? -1 : static_cast<int>(random.below(vocabulary)));
  return targets;
}

/// A head, its inputs and what is to come of them.
template <class T> struct HeadCase {
  Matrix<T> x, head, dx, dhead;
  std::vector<int> targets;
  std::vector<double> losses;

  HeadCase(Index tokens, Index channels, Index vocabulary, Random& random)
      : x(tokens, channels, random),
        head(vocabulary, channels, random, 0.3),
        dx(tokens, channels, random),
        dhead(vocabulary, channels, random),
        targets(some_targets(tokens, vocabulary, random)),
        losses(to_size(tokens)) {}

  template <class E = Serial> Loss run(Index stretch, T scale, E&& executor = {}) {
    Matrix<T> logits(stretch, head.rows);
    return head_cross_entropy(HeadLossCall<T>{.x = x.view(),
                                              .head = head.view(),
                                              .logits = logits.view(),
                                              .losses = losses,
                                              .scale = scale,
                                              .dx = dx.view(),
                                              .dhead = dhead.view()},
                              targets, executor);
  }
  template <class S = T> Matrix<double> logits() const {
    Matrix<double> to(x.rows, head.rows);
    for (Index t = 0; t < x.rows; ++t)
      for (Index v = 0; v < head.rows; ++v)
        for (Index c = 0; c < x.columns; ++c)
          to(t, v) += static_cast<double>(x(t, c)) * static_cast<double>(head(v, c));
    return to;
  }
};

}  // namespace

TEST_CASE_TEMPLATE("loss: cross-entropy against the definition, for sizes around packs and blocks", T, float, double) {
  Random random(1);
  for (auto const& [tokens, vocabulary] :
       {std::array<Index, 2>{1, 1}, {3, 2}, {7, 16}, {6, 33}, {9, 256}, {5, 511}, {5, 1200}}) {
    test::Note const notes[]{{"tokens", tokens}, {"vocabulary", vocabulary}};
    Matrix<T> const logits(tokens, vocabulary, random, 4);
    std::vector<int> const targets = some_targets(tokens, vocabulary, random);
    Expected const to = expected(logits, targets, 0.25);
    Matrix<T> d = logits;
    std::vector<double> losses(to_size(tokens), -1);
    Loss const loss = softmax_cross_entropy(d.view(), targets, 0.25, losses);
    CHECK(loss.tokens == to.loss.tokens);
    check_close(std::vector{loss.sum}, std::vector{to.loss.sum}, bound<T>);
    CHECK(loss.mean() == doctest::Approx(loss.sum / static_cast<double>(loss.tokens)));
    check_close(losses, to.losses, bound<T>);
    check_close(d.numbers, to.gradients, bound<T>);
    for (Index const tasks : {2, 3, 7}) {
      Matrix<T> shared = logits;
      std::vector<double> same(to_size(tokens));
      Loss const again = softmax_cross_entropy(shared.view(), targets, 0.25, same, test::Backwards{tasks});
      check_that(again == loss, "the loss has the same bits whatever the executor");
      check_equal(same, losses);
      check_equal(shared.numbers, d.numbers);
    }
  }
}

TEST_CASE_TEMPLATE("loss: logits of any size", T, float, double) {
  T const none = -std::numeric_limits<T>::infinity();
  Matrix<T> logits(6, 40);
  for (Index v = 0; v < 40; ++v) {
    logits(0, v) = T(v == 7 ? 1e4 : -1e4);
    logits(1, v) = T(v == 7 ? 1e4 : -1e4);
    logits(2, v) = T(1e4);
    logits(3, v) = v == 3 || v == 39 ? T(-1e4) : none;
    logits(4, v) = T(v == 39 ? -1e4 : 0);
    logits(5, v) = T(1e30);
  }
  std::vector<std::int64_t> const targets{7, 8, 0, 39, 39, 5};
  std::vector<double> losses(6);
  Loss const loss = softmax_cross_entropy(logits.view(), targets, 1, losses);
  std::vector<double> const to{0, 2e4, std::log(40.0), std::log(2.0), 1e4 + std::log(39.0), std::log(40.0)};
  for (std::size_t t = 0; t < to.size(); ++t) CHECK(std::abs(losses[t] - to[t]) <= bound<T> * std::max(1.0, to[t]));
  CHECK(std::isfinite(loss.sum));
  CHECK(loss.tokens == 6);
  CHECK(logits(0, 7) == T(0));
  CHECK(logits(1, 7) == T(1));
  CHECK(logits(1, 8) == T(-1));
  CHECK(logits(3, 0) == T(0));
  CHECK(logits(3, 3) == doctest::Approx(0.5));
  CHECK(logits(3, 39) == doctest::Approx(-0.5));
}

TEST_CASE_TEMPLATE("loss: what is no number is no loss, and one token is certain", T, float, double) {
  for (T const bad : {std::numeric_limits<T>::quiet_NaN(), std::numeric_limits<T>::infinity()})
    for (Index const at : {0, 5, 30, 36}) {
      Matrix<T> logits(2, 37);
      logits(0, at) = bad;
      std::vector<double> losses(2);
      CHECK(std::isnan(softmax_cross_entropy(logits.view(), std::vector{3, 4}, 1, losses).sum));
      CHECK(losses[1] == doctest::Approx(std::log(37.0)));
    }
  Matrix<T> certain(2, 1, T(-1e4));
  std::vector<double> losses(2, 1);
  CHECK(softmax_cross_entropy(certain.view(), std::vector{0, 0}, 1, losses).sum == 0);
  CHECK(certain(0, 0) == T(0));
  Matrix<T> ignored(2, 3, std::numeric_limits<T>::quiet_NaN());
  Loss const nothing = softmax_cross_entropy(ignored.view(), std::vector{-1, -1}, 1, losses);
  CHECK(nothing == Loss{});
  CHECK(nothing.mean() == 0);
  check_equal(ignored.numbers, std::vector<double>(6));
  Matrix<T> empty(0, 3);
  CHECK(softmax_cross_entropy(empty.view(), std::vector<int>(), 1, std::vector<double>()) == Loss{});
}

TEST_CASE("loss: gradients of a head, by central differences") {
  Random random(2);
  HeadCase<double> c(5, 6, 9, random);
  std::fill(c.dx.numbers.begin(), c.dx.numbers.end(), 0);
  std::fill(c.dhead.numbers.begin(), c.dhead.numbers.end(), 0);
  c.run(2, 1.0);
  // Within step^2 times third derivatives, of order 1, and 1e-15 / step.
  auto const differences = [&](Matrix<double>& of) {
    constexpr double step = 1e-5;
    std::vector<double> d;
    for (double& e : of.numbers) {
      double const at = e;
      e = at + step;
      double const more = expected(c.logits(), c.targets, 1).loss.sum;
      e = at - step;
      d.push_back((more - expected(c.logits(), c.targets, 1).loss.sum) / (2 * step));
      e = at;
    }
    return d;
  };
  check_close(c.dx.numbers, differences(c.x), 1e-9);
  check_close(c.dhead.numbers, differences(c.head), 1e-9);
}

TEST_CASE_TEMPLATE("loss: of a head it adds to gradients, with the same bits whatever the stretch and executor", T,
                   float, double) {
  Random random(3);
  HeadCase<T> const given(130, 66, 67, random);
  HeadCase<T> whole = given;
  Loss const loss = whole.run(130, T(0.5));
  Expected const to = expected(given.logits(), given.targets, 0.5);
  check_close(whole.losses, to.losses, bound<T>);
  std::vector<double> dx(given.dx.numbers.begin(), given.dx.numbers.end());
  std::vector<double> dhead(given.dhead.numbers.begin(), given.dhead.numbers.end());
  for (Index t = 0; t < 130; ++t)
    for (Index v = 0; v < 67; ++v)
      for (Index i = 0; i < 66; ++i) {
        double const d = to.gradients[to_size(t * 67 + v)];
        dx[to_size(t * 66 + i)] += d * static_cast<double>(given.head(v, i));
        dhead[to_size(v * 66 + i)] += d * static_cast<double>(given.x(t, i));
      }
  check_close(whole.dx.numbers, dx, bound<T>);
  check_close(whole.dhead.numbers, dhead, bound<T>);
  for (auto const& [stretch, tasks] : {std::pair<Index, Index>{1, 1}, {7, 3}, {64, 1}, {129, 2}, {200, 3}}) {
    test::Note const notes[]{{"stretch", stretch}, {"tasks", tasks}};
    HeadCase<T> parts = given;
    check_that(parts.run(stretch, T(0.5), test::Backwards{tasks}) == loss, "the loss has the same bits");
    check_equal(parts.losses, whole.losses);
    check_equal(parts.dx.numbers, whole.dx.numbers);
    check_equal(parts.dhead.numbers, whole.dhead.numbers);
  }
}

TEST_CASE("loss: of a head whose gradients are not wanted, without allocation") {
  Random random(4);
  HeadCase<float> c(20, 8, 50, random);
  HeadCase<float> with_gradients = c;
  Loss const expected = with_gradients.run(8, 1);
  Matrix<float> logits(8, 50);
  test::AllocationCounter const allocations;
  Loss const loss = head_cross_entropy(
      HeadLossCall<float>{.x = c.x.view(), .head = c.head.view(), .logits = logits.view(), .losses = c.losses},
      c.targets);
  CHECK(allocations.count() == 0);
  CHECK(loss == expected);
  CHECK(loss.tokens == 16);
  check_equal(c.losses, with_gradients.losses);
}
