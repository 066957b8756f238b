/// Gradients of the GOLD layer against central differences of the reference, and what they owe: any blocks, any executor.
#include "aviary/layers/gold_backward.hpp"

#include <doctest/doctest.h>

#include "support/allocation_counter.hpp"
#include "support/check.hpp"
#include "support/gold_case.hpp"

using namespace aviary;
using test::check_close;
using test::check_equal;
using test::GoldCase;
using test::GoldGradients;
using test::GoldRun;
using test::GoldShape;
using test::Matrix;
using test::Random;

namespace {

template <class T> constexpr double bound = std::is_same_v<T, float> ? 2e-5 : 1e-12;

constexpr GoldShape small{.channels = 12, .heads = 2, .width = 3, .mix_rank = 4, .rank = 5};
/// Channels and a head size that are no multiples of packs, three heads.
constexpr GoldShape odd{.channels = 66, .heads = 3, .width = 5, .mix_rank = 7, .rank = 10};

/// The sum of y dy of the last m tokens, by the reference, from what it reads.
struct Loss {
  GoldCase<double>& given;
  Matrix<double> dy;  // (m, C)
  Matrix<double> e, c;

  Loss(GoldCase<double>& of, GoldRun<double> const& run, Index m)
      : given(of), dy(gradient(of, m)), e(of.tokens, of.channels), c(of.tokens, run.cache.width()) {
    run.token_cat.embed(run.cache.ids(), e.view());
    run.cache.read(0, c.view());
  }
  static Matrix<double> gradient(GoldCase<double> const& of, Index m) {
    Random random(99);
    return {m, of.channels, random};
  }

  /// The row of x before the first query.
  double* before() {
    Index const first = given.tokens - dy.rows;
    return first == 0 ? given.before.data() : &given.x(first - 1, 0);
  }
  double operator()() {
    Index const m = dy.rows;
    Matrix<double> y(m, given.channels);
    reference::Gold<double>::forward(given.reference_weights(),
                                     {.e = e.view(),
                                      .c = c.view(),
                                      .x = given.x.rows_of(given.tokens - m, m),
                                      .before = VecView<double const>(before(), given.channels)},
                                     y.view());
    double sum = 0;
    for (std::size_t i = 0; i < y.numbers.size(); ++i) sum += y.numbers[i] * dy.numbers[i];
    return sum;
  }
  /// Central differences with respect to n numbers. With a step of 1e-5 they are within step^2 times the third derivatives,
  /// which are of order 1 to 100, and the loss's rounding, 1e-15, over the step: below 1e-7 of gradients of order 1.
  std::vector<double> differences(double* x, Index n) {
    constexpr double step = 1e-5;
    std::vector<double> d;
    for (Index i = 0; i < n; ++i) {
      double const at = x[i];
      x[i] = at + step;
      double const more = (*this)();
      x[i] = at - step;
      d.push_back((more - (*this)()) / (2 * step));
      x[i] = at;
    }
    return d;
  }
  std::vector<double> differences(Matrix<double>& x) { return differences(x.numbers.data(), x.rows * x.columns); }
};

/// A run whose cache has the first n tokens.
template <class T> GoldRun<T> cached(GoldCase<T> const& given, Index n) {
  GoldRun<T> run(given, given.tokens);
  run.token_cat.append(std::span(given.ids).first(to_size(n)), given.hidden.rows_of(0, n), run.cache, run.scratch);
  return run;
}

template <class T> std::vector<T> joined(std::vector<T> a, std::vector<T> const& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

/// The gradients of two ways to compute them, or of two arithmetics.
template <class T, class U>
void check_gradients(GoldGradients<T> const& d, GoldGradients<U> const& expected, double within) {
  check_close(d.x.numbers, expected.x.numbers, within);
  check_close(d.e.numbers, expected.e.numbers, within);
  check_close(d.c.numbers, expected.c.numbers, within);
  check_close(d.state.x, expected.state.x, within);
  for (auto const& [name, tensor] : d.tensors) {
    test::Note const note("tensor", name);
    auto const& of = expected.tensors.at(name).numbers;
    // That of ln_k.bias is 0 without rotary embedding: softmax does not see what all scores share. It is as exact as that of
    // ln_k, a sum of the same terms.
    if (name == "ln_k.bias")
      check_close(joined(tensor.numbers, d.tensors.at("ln_k").numbers), joined(of, expected.tensors.at("ln_k").numbers),
                  within);
    else
      check_close(tensor.numbers, of, within);
  }
}

template <class T> void check_same(GoldGradients<T> const& d, GoldGradients<T> const& expected) {
  CHECK(d.x == expected.x);
  CHECK(d.e == expected.e);
  CHECK(d.c == expected.c);
  CHECK(d.state == expected.state);
  CHECK(d.tensors == expected.tensors);
}

}  // namespace

TEST_CASE("gold backward: central differences of the reference, of every number, for one token and for many") {
  for (auto const& [n, m] : {std::pair<Index, Index>{1, 1}, {6, 6}, {6, 2}, {5, 1}})
    for (std::optional<double> const rotary : {std::optional<double>(), std::optional<double>(100)}) {
      test::Note const notes[]{{"tokens", n}, {"queries", m}, {"rotary", rotary.has_value()}};
      GoldCase<double> given(3, n, small, rotary);
      GoldRun<double> const run = cached(given, n);
      Loss loss(given, run, m);
      GoldGradients<double> d(given, m), expected(given, m);
      d.add(run, loss.dy.view(), 0, m);
      expected.x.numbers = loss.differences(&given.x(n - m, 0), m * given.channels);
      expected.e.numbers = loss.differences(loss.e);
      expected.c.numbers = loss.differences(loss.c);
      auto const state = loss.differences(loss.before(), given.channels);
      expected.state.x.assign(state.begin(), state.end());
      for (auto& [name, tensor] : expected.tensors) tensor.numbers = loss.differences(given.tensors.at(name));
      check_gradients(d, expected, 1e-7);
    }
}

TEST_CASE("gold backward: across a block's end, by central differences") {
  for (std::optional<double> const rotary : {std::optional<double>(), std::optional<double>(10000)}) {
    GoldCase<double> given(4, 132, small, rotary);
    GoldRun<double> const run = cached(given, 132);
    Loss loss(given, run, 4);
    GoldGradients<double> d(given, 4);
    d.add(run, loss.dy.view(), 0, 4);
    auto const rows = [](Matrix<double> const& x) {
      return std::vector<double>(x.view()[127].begin(), x.view()[128].end());
    };
    // Gradients of two positions of many are small: relative to them rounding weighs more.
    check_close(rows(d.e), loss.differences(&loss.e(127, 0), 2 * given.channels), 1e-6);
    check_close(rows(d.c), loss.differences(&loss.c(127, 0), 2 * d.c.columns), 1e-6);
    check_close(d.tensors.at("maa_k").numbers, loss.differences(given.tensors.at("maa_k")), 1e-7);
    check_close(d.tensors.at("maa_v").numbers, loss.differences(given.tensors.at("maa_v")), 1e-7);
  }
}

TEST_CASE_TEMPLATE("gold backward: queries in stretches of any size are within the bound, floats of doubles", T, float,
                   double) {
  for (std::optional<double> const rotary : {std::optional<double>(), std::optional<double>(10000)}) {
    GoldCase<T> const given(5, 150, odd, rotary);
    GoldCase<double> const exact(5, 150, odd, rotary);
    Matrix<double> const dy = Loss::gradient(exact, 140);
    Matrix<T> rounded(140, given.channels);
    std::transform(dy.numbers.begin(), dy.numbers.end(), rounded.numbers.begin(),
                   [](double e) { return static_cast<T>(e); });
    GoldRun<T> const run = cached(given, 150);
    GoldGradients<double> expected(exact, 140);
    expected.add(cached(exact, 150), dy.view(), 0, 140);
    for (Index const at_once : {140, 64, 37}) {
      test::Note const note("at once", at_once);
      GoldGradients<T> d(given, 140);
      d.add(run, rounded.view(), 0, at_once);
      check_gradients(d, expected, bound<T>);
    }
  }
}

TEST_CASE("gold backward: any executor, the same bits") {
  GoldCase<float> const given(7, 140, {.channels = 72, .heads = 4, .width = 8, .mix_rank = 80, .rank = 100}, 10000.0);
  GoldRun<float> const run = cached(given, 140);
  Random random(1);
  Matrix<float> const dy(60, given.channels, random);
  GoldGradients<float> expected(given, 60);
  expected.add(run, dy.view(), 0, 40);
  for (Index const tasks : {2, 3, 7}) {
    GoldGradients<float> d(given, 60);
    d.add(run, dy.view(), 0, 40, test::Backwards{tasks});
    check_same(d, expected);
  }
}

TEST_CASE("gold backward: calls with the state's gradient handed back add up to one") {
  GoldCase<double> const given(8, 150, odd);
  Random random(1);
  Matrix<double> const dy(150, given.channels, random);
  GoldGradients<double> expected(given, 150), d(given, 150);
  expected.add(cached(given, 150), dy.view(), 0, 150);
  d.add(cached(given, 150), dy.rows_of(100, 50), 100, 50);
  d.add(cached(given, 100), dy.rows_of(1, 99), 1, 99);
  d.add(cached(given, 1), dy.rows_of(0, 1), 0, 1);
  check_gradients(d, expected, bound<double>);
}

TEST_CASE("gold backward: a gradient of the last state is the last input's, and no query changes nothing") {
  GoldCase<double> const given(9, 6, small);
  Random random(1);
  Matrix<double> const dy(3, given.channels, random), dstate(1, given.channels, random);
  GoldGradients<double> d(given, 3), expected(given, 3);
  expected.add(cached(given, 6), dy.view(), 0, 3);
  d.state.x.assign(dstate.numbers.begin(), dstate.numbers.end());
  d.add(cached(given, 6), dy.rows_of(0, 0), 0, 1);
  check_equal(d.state.x, dstate.numbers);
  d.add(cached(given, 6), dy.view(), 0, 3);
  for (Index i = 0; i < given.channels; ++i) expected.x(2, i) += dstate(0, i);
  check_gradients(d, expected, bound<double>);
}

TEST_CASE("gold backward: it allocates nothing, keeps its memory, and computes the same when little is wanted") {
  GoldCase<float> const given(10, 150, odd);
  GoldRun<float> const run = cached(given, 150);
  Random random(1);
  Matrix<float> const dy(20, given.channels, random);
  GoldGradients<float> expected(given, 20), d(given, 20);
  expected.add(run, dy.view(), 0, 20);
  using Backward = GoldBackward<float>;
  Scratch<float> scratch(20 * Backward::scratch_size(run.layer));
  Scratch<float> workspace(Backward::workspace_size(run.layer, run.token_cat));
  Index const left = scratch.left(), workspace_left = workspace.left();
  auto const w = given.weights();
  Gold<float>::State const before{AlignedVector<float>(given.x.view()[129].begin(), given.x.view()[129].end())};
  GoldContext const context(run.token_cat, run.cache, 20, workspace);
  Backward::Call const call{.weights = w,
                            .expand = given.view("w_b"),
                            .x = given.x.rows_of(130, 20),
                            .state = before,
                            .dy = dy.view(),
                            .dx = d.x.view(),
                            .dstate = d.state,
                            .dc = d.c.view()};
  {
    test::AllocationCounter const allocations;
    Backward::run(run.layer, call, scratch, context);
    CHECK(allocations.count() == 0);
  }
  CHECK(scratch.left() == left);
  CHECK(workspace.left() == workspace_left);
  CHECK(d.x == expected.x);
  CHECK(d.state == expected.state);
  CHECK(d.c == expected.c);
}

TEST_CASE_TEMPLATE("gold backward: of what a cache stores, whatever it rounds", S, bf16, q8) {
  GoldCase<float> const given(11, 20, odd);
  GoldRun<float, S> run(given, 20);
  run.token_cat.append(std::span<std::int32_t const>(given.ids), given.hidden.view(), run.cache, run.scratch);
  GoldRun<float> exact(given, 20);
  Matrix<float> keys(20, run.cache.width());
  run.cache.read(0, keys.view());
  exact.cache.append(std::span<std::int32_t const>(given.ids), std::as_const(keys).view());
  Random random(1);
  Matrix<float> const dy(20, given.channels, random);
  GoldGradients<float> d(given, 20), expected(given, 20);
  d.add(run, dy.view(), 0, 20);
  expected.add(exact, dy.view(), 0, 20);
  check_same(d, expected);
}

TEST_CASE("gold backward: as the time mix of a block, packed sequences give what they give one after another") {
  GoldCase<double> const given(12, 20, odd, 10000.0);
  GoldRun<double> const runs[]{cached(given, 20), cached(given, 9), cached(given, 7)};
  std::vector<Index> const offsets{0, 20, 20, 24};  // 20 queries, none, and the last 4 of 7 tokens
  Index const c = given.channels;
  Random random(1);
  Matrix<double> const dy(24, c, random), dstates(3, c, random);
  GoldGradients<double> expected(given, 24), last(given, 4);
  auto const dstate_of = [&](Index s) -> Gold<double>::State {
    return {{dstates.view()[s].begin(), dstates.view()[s].end()}};
  };
  expected.state = dstate_of(0);
  expected.add(runs[0], dy.rows_of(0, 20), 0, 20);
  auto const dfirst = expected.state;
  last.state = expected.state = dstate_of(2);
  expected.add(runs[2], dy.rows_of(20, 4), 20, 4);
  last.add(runs[2], dy.rows_of(20, 4), 0, 4);

  Gold<double> const& layer = runs[0].layer;
  Gold<double>::State states[]{{given.before}, {given.before}, {{given.x.view()[2].begin(), given.x.view()[2].end()}}};
  Gold<double>::StateGradient gradients[]{dstate_of(0), dstate_of(1), dstate_of(2)};
  Matrix<double> x(24, c), late(24, c), de(36, c), dc(36, runs[0].cache.width()), y(24, c);
  std::copy_n(given.x.numbers.begin(), 20 * c, x.numbers.begin());
  std::copy_n(given.x.numbers.begin() + 3 * c, 4 * c, x.numbers.begin() + 20 * c);
  GoldGradients<double> d(given, 24);
  auto const w = given.weights();
  auto const dw = d.weights();
  Scratch<double> scratch(layer.backward_scratch_size(24, 3, 1, 2 * 24 * padded<double>(c)));
  Scratch<double> workspace(GoldBackward<double>::workspace_size(layer, runs[0].token_cat));
  auto const cache = [&](Index s) { return &runs[s].cache; };
  GoldContext const context(runs[0].token_cat, States<TokenCache<double> const>(cache, 3, 1), offsets, workspace);
  GoldTape<double, double> const tape{
      .context = context, .expand = given.view("w_b"), .de = de.view(), .dc = dc.view(), .dexpand = d.view("w_b")};
  {
    test::AllocationCounter const allocations;
    layer.backward({.weights = w,
                    .x = std::as_const(x).view(),
                    .states = {States<Gold<double>::State const>(states, 3), offsets},
                    .dy = std::as_const(late).view(),
                    .dx = d.x.view(),
                    .dstates = {gradients, 3},
                    .dweights = dw},
                   tape, scratch, Serial{}, [&](MatView<double const> increment) {
                     detail::transform_rows(y.view(), activation::none, increment);
                     detail::transform_rows(late.view(), activation::none, dy.view());
                   });
    CHECK(allocations.count() == 0);
  }
  d.state = gradients[2];
  d.e = expected.e;  // of both sequences together
  d.c = expected.c;
  check_same(d, expected);
  check_equal(gradients[0].x, dfirst.x);
  check_equal(gradients[1].x, dstate_of(1).x);
  auto const rows = [](Matrix<double> const& m, Index first, Index count) {
    return std::vector<double>(m.numbers.begin() + first * m.columns, m.numbers.begin() + (first + count) * m.columns);
  };
  check_equal(rows(de, 29, 7), rows(last.e, 0, 7));
  check_equal(rows(dc, 29, 7), rows(last.c, 0, 7));
  check_equal(rows(de, 20, 9), std::vector<double>(to_size(9 * c)));
  check_equal(rows(de, 7, 13), rows(expected.e, 7, 13));

  GoldRun<double> forward(given, 20);
  check_close(rows(y, 0, 20), forward.run({20}).numbers, bound<double>);
}
