/// Gradients of attention over blocks: against central differences of a plain softmax, and against the formula written out.
#include "aviary/cache/attention_backward.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "support/allocation_counter.hpp"
#include "support/check.hpp"
#include "support/layer_case.hpp"

using namespace aviary;
using test::check_close;
using test::check_equal;
using test::Matrix;
using test::Random;

namespace {

template <class T> constexpr double bound = std::is_same_v<T, float> ? 3e-6 : 1e-13;

/// The last m of n positions are queries. Scores are of order 1, as those of layers.
template <class T> struct Case {
  Index n, m, heads, size, channels = heads * size;
  Matrix<T> q{0, 0}, k{0, 0}, v{0, 0}, dy{0, 0};

  Case(Index positions, Index queries, Index h, Index head_size) : n(positions), m(queries), heads(h), size(head_size) {
    Random random(static_cast<std::uint64_t>(n + 1000 * h + 100000 * head_size));
    q = Matrix<T>(m, channels, random, 1 / std::sqrt(static_cast<double>(size)));
    for (Matrix<T>* x : {&k, &v}) *x = Matrix<T>(n, channels, random);
    dy = Matrix<T>(m, channels, random);
  }
};

template <class T> struct Gradients { Matrix<T> dq, dk, dv; };

/// The probabilities of a query for a head.
std::vector<double> probabilities(Case<double> const& c, Index t, Index h) {
  std::vector<double> p;
  double sum = 0;
  for (Index s = 0; s <= c.n - c.m + t; ++s) {
    double score = 0;
    for (Index i = h * c.size; i < (h + 1) * c.size; ++i) score += c.q(t, i) * c.k(s, i);
    sum += p.emplace_back(std::exp(score));
  }
  for (double& e : p) e /= sum;
  return p;
}

/// The sum of y dy.
double loss(Case<double> const& c) {
  double sum = 0;
  for (Index t = 0; t < c.m; ++t)
    for (Index h = 0; h < c.heads; ++h) {
      auto const p = probabilities(c, t, h);
      for (std::size_t s = 0; s < p.size(); ++s)
        for (Index i = h * c.size; i < (h + 1) * c.size; ++i) sum += p[s] * c.v(static_cast<Index>(s), i) * c.dy(t, i);
    }
  return sum;
}

/// By the formula.
Gradients<double> plain(Case<double> const& c) {
  Gradients<double> d{{c.m, c.channels}, {c.n, c.channels}, {c.n, c.channels}};
  for (Index t = 0; t < c.m; ++t)
    for (Index h = 0; h < c.heads; ++h) {
      auto const p = probabilities(c, t, h);
      std::vector<double> dp(p.size());
      double mean = 0;
      for (std::size_t s = 0; s < p.size(); ++s) {
        for (Index i = h * c.size; i < (h + 1) * c.size; ++i) dp[s] += c.dy(t, i) * c.v(static_cast<Index>(s), i);
        mean += p[s] * dp[s];
      }
      for (std::size_t s = 0; s < p.size(); ++s)
        for (Index i = h * c.size, at = static_cast<Index>(s); i < (h + 1) * c.size; ++i) {
          double const g = p[s] * (dp[s] - mean);
          d.dq(t, i) += g * c.k(at, i);
          d.dk(at, i) += g * c.q(t, i);
          d.dv(at, i) += p[s] * c.dy(t, i);
        }
    }
  return d;
}

/// Central differences of the loss with respect to each number of x, a member of c. With a step of 1e-4 they are within
/// step^2 = 1e-8 of the gradient, for third derivatives of order 1, and rounding makes 1e-16 / 1e-4 of it.
std::vector<double> differences(Case<double>& c, Matrix<double>& x) {
  constexpr double step = 1e-4;
  std::vector<double> d;
  for (double& e : x.numbers) {
    double const at = e;
    e = at + step;
    double const more = loss(c);
    e = at - step;
    d.push_back((more - loss(c)) / (2 * step));
    e = at;
  }
  return d;
}

/// By blocks of so many positions.
template <class T, class E = Serial> Gradients<T> blockwise(Case<T> const& c, Index block = 128, E&& executor = {}) {
  KeyValueCache<T> cache(c.channels, c.heads);
  cache.append(c.k.view(), c.v.view());
  Scratch<T> scratch(c.m * (cache.scratch_size() + AttentionBackward<T>::scratch_size(c.heads)));
  Scratch<T> workspace(AttentionBackward<T>::workspace_size(c.channels));
  Matrix<T> y(c.m, c.channels), log_sums(c.m, c.heads);
  cache.attend(c.q.view(), c.n - c.m, y.view(), log_sums.view(), scratch, executor);
  Gradients<T> d{{c.m, c.channels}, {c.n, c.channels}, {c.n, c.channels}};
  AttentionBackward<T> const backward({c.q.view(), y.view(), c.dy.view(), log_sums.view(), c.n - c.m, d.dq.view()},
                                      c.heads, scratch);
  for (Index first = 0; first < c.n; first += block) {
    Index const count = std::min(block, c.n - first);
    backward.add(c.k.rows_of(first, count), c.v.rows_of(first, count), first, d.dk.view().rows(first, count),
                 d.dv.view().rows(first, count), workspace, executor);
  }
  return d;
}

template <class T> void check_gradients(Gradients<T> const& d, Gradients<double> const& expected, double within) {
  check_close(d.dq.numbers, expected.dq.numbers, within);
  check_close(d.dk.numbers, expected.dk.numbers, within);
  check_close(d.dv.numbers, expected.dv.numbers, within);
}

template <class T> void check_same(Gradients<T> const& d, Gradients<T> const& expected) {
  check_equal(d.dq.numbers, expected.dq.numbers);
  check_equal(d.dk.numbers, expected.dk.numbers);
  check_equal(d.dv.numbers, expected.dv.numbers);
}

}  // namespace

TEST_CASE("attention backward: central differences of a plain softmax, one token and more positions than queries too") {
  for (auto const& [n, m] : {std::pair<Index, Index>{1, 1}, {7, 7}, {9, 3}, {131, 2}}) {
    Case<double> c(n, m, 2, 3);
    test::Note const note("positions", n);
    Gradients<double> const d = blockwise(c);
    if (n == 1) {  // its only probability is 1, whatever q and k are
      check_close(d.dq.numbers, std::vector<double>(6), 1e-15);
      check_close(d.dk.numbers, std::vector<double>(6), 1e-15);
    } else {
      check_close(d.dq.numbers, differences(c, c.q), 1e-7);
      check_close(d.dk.numbers, differences(c, c.k), 1e-7);
    }
    check_close(d.dv.numbers, differences(c, c.v), 1e-7);
  }
}

TEST_CASE_TEMPLATE("attention backward: the formula, for all sizes around blocks, tiles and packs", T, float, double) {
  for (Index const n : {2, 33, 127, 128, 129, 300})
    for (Index const size : {1, 16, 31, 64})
      for (Index const m : {Index{1}, std::min(n, Index{5}), n}) {
        if (size == 1 && m == 1) continue;  // dq is one number, a sum that cancels: it has no relative accuracy
        Index const heads = n < 200 ? 3 : 1;
        test::Note const notes[]{{"n", n}, {"size", size}, {"m", m}};
        check_gradients(blockwise(Case<T>(n, m, heads, size)), plain(Case<double>(n, m, heads, size)), bound<T>);
      }
}

TEST_CASE_TEMPLATE("attention backward: blocks of any size are within the bound", T, float, double) {
  Case<T> const given(150, 140, 2, 20);
  Gradients<double> const expected = plain(Case<double>(150, 140, 2, 20));
  for (Index const block : {1, 7, 64, 100, 128}) check_gradients(blockwise(given, block), expected, bound<T>);
}

TEST_CASE_TEMPLATE("attention backward: any executor, the same bits", T, float, double) {
  Case<T> const given(300, 200, 5, 20);
  Gradients<T> const expected = blockwise(given);
  for (Index const tasks : {2, 3, 5, 16}) check_same(blockwise(given, 128, test::Backwards{tasks}), expected);
}

TEST_CASE("attention backward: queries in stretches add up to those of one call") {
  Case<float> const given(150, 150, 2, 20);
  Gradients<float> d{{150, 40}, {150, 40}, {150, 40}};
  KeyValueCache<float> cache(40, 2);
  cache.append(given.k.view(), given.v.view());
  Scratch<float> workspace(AttentionBackward<float>::workspace_size(40));
  for (Index first = 0, n = 11; first < 150; first += n, n = std::min(Index{60}, 150 - first)) {
    Scratch<float> scratch(n * (cache.scratch_size() + AttentionBackward<float>::scratch_size(2)));
    Matrix<float> y(n, 40), log_sums(n, 2);
    cache.attend(given.q.rows_of(first, n), first, y.view(), log_sums.view(), scratch);
    AttentionBackward<float> const backward({given.q.rows_of(first, n), y.view(), given.dy.rows_of(first, n),
                                             log_sums.view(), first, d.dq.view().rows(first, n)},
                                            2, scratch);
    for (Index s = 0; s < first + n; s += 128) {
      Index const count = std::min(Index{128}, first + n - s);
      backward.add(given.k.rows_of(s, count), given.v.rows_of(s, count), s, d.dk.view().rows(s, count),
                   d.dv.view().rows(s, count), workspace);
    }
  }
  check_gradients(d, plain(Case<double>(150, 150, 2, 20)), bound<float>);
}

TEST_CASE("attention backward: scores of hundreds neither overflow nor make NaN") {
  Case<float> given(200, 200, 2, 16);
  Case<double> exact(200, 200, 2, 16);
  for (float& e : given.q.numbers) e *= 64;
  for (double& e : exact.q.numbers) e *= 64;
  // An error of eps in a score of hundreds is one of hundreds of eps in its exponential.
  check_gradients(blockwise(given), plain(exact), 300 * bound<float>);
}

TEST_CASE("attention backward: it does not allocate, and keeps its workspace and what is around the gradients") {
  Case<float> const given(140, 50, 2, 20);
  Gradients<float> const expected = blockwise(given);
  KeyValueCache<float> cache(40, 2);
  cache.append(given.k.view(), given.v.view());
  Index const per_query = cache.scratch_size() + AttentionBackward<float>::scratch_size(2);
  Scratch<float> scratch(50 * per_query), workspace(AttentionBackward<float>::workspace_size(40));
  Index const left = workspace.left();
  Matrix<float> y(50, 40), log_sums(50, 2), dq(50, 40), around(52, 60, -7), dv(140, 40), dk(140, 40);
  MatView<float> const inside(&around(1, 10), 50, 40, 60);
  for (Index t = 0; t < 50; ++t) std::fill_n(inside[t].data(), 40, 0.0f);
  test::AllocationCounter const allocations;
  cache.attend(given.q.view(), 90, y.view(), log_sums.view(), scratch);
  AttentionBackward<float> const backward({given.q.view(), y.view(), given.dy.view(), log_sums.view(), 90, inside}, 2,
                                          scratch);
  for (Index first : {0, 128}) {
    Index const count = std::min(Index{128}, 140 - first);
    backward.add(given.k.rows_of(first, count), given.v.rows_of(first, count), first, dk.view().rows(first, count),
                 dv.view().rows(first, count), workspace);
  }
  CHECK(allocations.count() == 0);
  CHECK(workspace.left() == left);
  check_equal(dk.numbers, expected.dk.numbers);
  std::vector<float> frame(52 * 60, -7);
  for (Index t = 0; t < 50; ++t) std::copy_n(&expected.dq(t, 0), 40, &frame[to_size((t + 1) * 60 + 10)]);
  check_equal(around.numbers, frame);
}
