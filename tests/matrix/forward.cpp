#include "aviary/matrix/forward.hpp"

#include <doctest/doctest.h>

#include <limits>

#include "aviary/wkv7.hpp"
#include "support/allocation_counter.hpp"
#include "support/compare.hpp"
#include "support/matrix_case.hpp"
#include "support/memory_suite.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

/// What most tests here run: the hardest traits, four value heads.
using Rule = AnyRule<Gate::vector, Erase::rank_one, Read::after>;
template <class T, Index K = 16, Index V = 24> using Memory = MatrixMemory<Rule, T, K, V>;

MatrixCase make_case(std::vector<Index> offsets, Index keys = 16, Index values = 24, Index heads = 4) {
  return MatrixCase(11, {keys, values, heads, std::move(offsets)}, Gate::vector, Erase::rank_one, false, Decay::wkv7);
}

template <class M>
MatrixCall<M> run_of(std::vector<Index> offsets, Index keys = 16, Index values = 24, Index heads = 4) {
  return MatrixCall<M>(make_case(std::move(offsets), keys, values, heads));
}

template <class M> MatrixResult result_of(MatrixCase const& c) { return forwarded(MatrixCall<M>(c)).result(); }

}  // namespace

TEST_CASE_TEMPLATE("forward: equals a loop of step", T, float, double) { check_steps(run_of<Memory<T>>({0, 70})); }

TEST_CASE_TEMPLATE("forward: split anywhere equals the whole", T, float, double) {
  check_splits(run_of<Memory<T>>({0, 40}));
}

TEST_CASE_TEMPLATE("forward: packed sequences of any length are independent", T, float, double) {
  MatrixCase const packed = make_case({0, 0, 1, 3, 10, 10, 26, 43, 100});
  check_close(result_of<Memory<T>>(packed), reference_result(packed, Rule::read), matrix_bound<T>);
  check_packed(MatrixCall<Memory<T>>(packed));
  check_states_apart(MatrixCall<Memory<T>>(packed));
}

TEST_CASE_TEMPLATE("forward: split after whole groups has the bits of the whole", M, Memory<float>, Memory<double>,
                   Memory<float, dynamic, dynamic>) {
  check_whole_groups(run_of<M>({0, 301}));
}

TEST_CASE("forward: tokens outside of all sequences are neither read nor written") {
  check_outside(run_of<Memory<float>>({0, 30}), 7, 19, [](auto& run, Index t) {
    for (Index i = 0; i < 4 * 16; ++i)
      run.x.numbers().p[to_size(t * 4 * 16 + i)] = std::numeric_limits<float>::quiet_NaN();
  });
}

TEST_CASE_TEMPLATE("forward: the same bits whatever the executor", M, Memory<float, 64, 192>, Memory<double, 16, 24>,
                   Memory<float, dynamic, dynamic>) {
  Index const keys = M::keys == dynamic ? 21 : M::keys, values = M::values == dynamic ? 100 : M::values;
  for (Index const heads : {1, 3}) check_executors(run_of<M>({0, 2, 35}, keys, values, heads));
}

TEST_CASE("forward: work is cut so that one sequence with one head gives every thread some") {
  aviary::detail::Cut const serial = aviary::detail::Cut::of(3, 8, 64, 16, 1);
  CHECK(serial.heads_per_task == 8);  // all heads of a sequence inside one time tile
  CHECK(serial.head_tasks * serial.row_tasks == 1);
  aviary::detail::Cut const even = aviary::detail::Cut::of(1, 12, 64, 16, 2);
  CHECK(even.heads_per_task == 6);  // heads that lie side by side stay together
  aviary::detail::Cut const wide = aviary::detail::Cut::of(1, 1, 64, 16, 4);
  CHECK(wide.row_tasks == 4);
  CHECK(wide.row_per_task == 16);
  aviary::detail::Cut const narrow = aviary::detail::Cut::of(1, 1, 16, 16, 4);  // a row of one line cannot be cut
  CHECK(narrow.row_tasks == 1);
  for (Index heads = 1; heads < 40; ++heads)
    for (Index concurrency = 1; concurrency < 20; ++concurrency) {
      aviary::detail::Cut const cut = aviary::detail::Cut::of(2, heads, 128, 16, concurrency);
      CHECK(cut.head_tasks * cut.heads_per_task >= heads);
      CHECK((cut.head_tasks - 1) * cut.heads_per_task < heads);
      CHECK(cut.row_tasks * cut.row_per_task >= 128);
      CHECK((cut.row_tasks - 1) * cut.row_per_task < 128);
    }
}

TEST_CASE("forward: strides, storage types and fields with fewer heads") {
  using M = Memory<float, 16, 24>;
  Index const n = 33, heads = 4;
  MatrixCase c = make_case({0, n});
  // Keys r and k of two heads, decay of one, in a wider array; v in bf16, q in f16, log_w in double.
  auto const share = [&](std::vector<float>& x, Index of) {
    for (Index t = 0; t < n; ++t)
      for (Index h = 0; h < heads; ++h)
        for (Index j = 0; j < 16; ++j)
          x[to_size((t * heads + h) * 16 + j)] = x[to_size((t * heads + h / (heads / of) * (heads / of)) * 16 + j)];
  };
  share(c.r, 2), share(c.k, 2), share(c.log_w, 1);
  for (float& e : c.v) e = widen(narrow<bf16>(e));
  for (float& e : c.q) e = widen(narrow<f16>(e));
  MatrixResult const expected = reference_result(c, Rule::read);

  Index const stride = 2 * 16 + 5;
  std::vector<float> r(to_size(n * stride), 9e9f), k(r);
  std::vector<double> log_w(to_size(n * 16));
  std::vector<bf16> v;
  std::vector<f16> q;
  for (float const e : c.v) v.push_back(narrow<bf16>(e));
  for (float const e : c.q) q.push_back(narrow<f16>(e));
  for (Index t = 0; t < n; ++t)
    for (Index j = 0; j < 16; ++j) {
      log_w[to_size(t * 16 + j)] = static_cast<double>(c.log_w[to_size(t * heads * 16 + j)]);
      for (Index g = 0; g < 2; ++g) {
        r[to_size(t * stride + g * 16 + j)] = c.r[to_size((t * heads + 2 * g) * 16 + j)];
        k[to_size(t * stride + g * 16 + j)] = c.k[to_size((t * heads + 2 * g) * 16 + j)];
      }
    }
  MatrixCall<M> call(c);
  auto forward = call.call();
  forward.x.r = {r.data(), n, 2, 16, stride, 16};
  forward.x.k = {k.data(), n, 2, 16, stride, 16};
  forward.x.log_w = {log_w.data(), n, 1};
  forward.x.v = {v.data(), n, heads};
  forward.x.q = {q.data(), n, heads};
  std::vector<double> y(to_size(n * heads * 30), -77.0);  // (tokens, heads, 24) in rows of 30
  forward.y = {y.data(), n, heads, 24, heads * 30, 30};
  REQUIRE(M::check(forward) == "");
  M::forward(forward);
  std::vector<double> dense;
  for (Index row = 0; row < n * heads; ++row)
    for (Index i = 0; i < 30; ++i) {
      double const e = y[to_size(row * 30 + i)];
      if (i < 24)
        dense.push_back(e);
      else
        CHECK(e == -77.0);
    }
  CHECK(max_error(dense, expected.y) <= matrix_bound<float>);

  std::vector<bf16> small(to_size(n * heads * 24));  // y in bf16: one rounding more
  MatrixCall<M> again(c);
  auto into_bf16 = again.call();
  into_bf16.x = forward.x;
  into_bf16.y = {small.data(), n, heads};
  M::forward(into_bf16);
  for (std::size_t i = 0; i < small.size(); ++i) CHECK(small[i] == narrow<bf16>(static_cast<float>(dense[i])));
}

TEST_CASE_TEMPLATE("forward: the tape keeps the states before every so many tokens", T, float, double) {
  check_tape(run_of<Memory<T>>({0, 0, 1, 9, 41}));
}

TEST_CASE("forward: a longer tape entry continues to the same end") {
  using M = Memory<float>;
  MatrixCase const c = make_case({0, 37});
  MatrixCall<M> call(c);
  auto forward = call.call();
  std::vector<M::State> kept(M::tape_size(forward.x, forward.offsets, 16));
  forward.tape = {.states = kept};
  M::forward(forward);
  std::vector<M::State> back(kept.begin() + 2 * 4, kept.begin() + 3 * 4);  // before token 32
  std::vector<Index> const rest{32, 37};
  M::forward({.x = forward.x, .y = forward.y, .states = back, .offsets = rest});
  CHECK(back == call.states);
}

TEST_CASE_TEMPLATE("forward: padding of a row stays zero, and so do bands around the output", M, Memory<float, 16, 24>,
                   Memory<double, 5, 3>, Memory<float, dynamic, dynamic>) {
  check_bands(run_of<M>({0, 23}, M::keys == dynamic ? 9 : M::keys, M::values == dynamic ? 17 : M::values, 2));
}

TEST_CASE("forward, step: allocate nothing") {
  using M = Memory<float>;
  MatrixCase const c = make_case({0, 1, 40});
  MatrixCall<M> call(c);
  auto const forward = call.call();
  auto const token = call.token(3, 1);
  auto const y = call.output(3, 1);
  Serial serial;
  AllocationCounter const allocations;
  aviary::detail::ForwardPass<M, aviary::detail::Stepped<M, simd::Native<float>>>::run(
      forward, serial);  // forward without its assertion
  M::step(call.states[0], token, y);
  CHECK(allocations.count() == 0);
}

TEST_CASE_TEMPLATE("forward: extremes stay finite and right", T, float, double) {
  using M = Memory<T>;
  for (Decay const decay : {Decay::none, Decay::wide, Decay::extremes}) {
    CAPTURE(name(decay));
    MatrixCase const c(3, {16, 24, 2, {0, 300}}, Gate::vector, Erase::rank_one, false, decay);
    MatrixResult const result = result_of<M>(c), expected = reference_result(c, Rule::read);
    for (double const e : result.y) REQUIRE(std::isfinite(e));
    check_close(result, expected, matrix_bound<T>);
  }
}

TEST_CASE("forward: NaN in gives NaN out, in its own head only") {
  using M = Memory<float>;
  MatrixCase c = make_case({0, 5});
  c.r[0] = std::numeric_limits<float>::quiet_NaN();  // token 0, head 0
  MatrixResult const result = result_of<M>(c);
  for (std::size_t i = 0; i < result.y.size(); ++i) CHECK(std::isnan(result.y[i]) == (i < 24));
}

TEST_CASE("forward: a token with w = 1, k = 0, q = 0 changes no state") {
  using M = Memory<float>;
  MatrixCase c = make_case({0, 20});
  std::fill(c.log_w.begin(), c.log_w.end(), 0.f);
  std::fill(c.k.begin(), c.k.end(), 0.f);
  std::fill(c.q.begin(), c.q.end(), 0.f);
  MatrixCall<M> call(c);
  auto const before = call.states;
  M::forward(call.call());
  CHECK(call.states == before);
}

TEST_CASE("check: says what is wrong with a call") {
  using M = Memory<float, dynamic, dynamic>;
  MatrixCase const c = make_case({0, 6});
  MatrixCall<M> call(c);
  auto const good = call.call();
  CHECK(M::check(good) == "");
  auto const says = [](std::string const& text, std::initializer_list<char const*> parts) {
    for (char const* const part : parts) CHECK_MESSAGE(text.find(part) != std::string::npos, text, " lacks ", part);
  };
  auto bad = good;
  bad.x.r = {call.x.numbers().r.data(), 5, 4, 16};
  says(M::check(bad), {"r has 5 tokens", "y has 6"});
  bad = good;
  bad.x.k = {call.x.numbers().k.data(), 6, 3, 16};
  says(M::check(bad), {"k has 3 heads", "a divisor of 4, the heads of y"});
  bad = good;
  bad.x.p = {call.x.numbers().p.data(), 6, 4, 15};
  says(M::check(bad), {"p has 15 keys", "expected 16"});
  bad = good;
  bad.x.v = {call.x.numbers().v.data(), 6, 4, 20};
  says(M::check(bad), {"v has 20 values", "expected 24"});
  bad = good;
  bad.states = std::span(call.states).first(3);
  says(M::check(bad), {"states has 3 elements", "expected 4"});
  bad = good;
  std::vector<M::State> small(4, M::State{16, 23});
  bad.states = small;
  says(M::check(bad), {"16 x 23", "expected 16 x 24"});
  bad = good;
  std::vector<Index> const backward{0, 4, 3}, beyond{0, 7};
  bad.offsets = backward;
  says(M::check(bad), {"sequence 1", "[4, 3)", "6 tokens"});
  bad.offsets = beyond;
  says(M::check(bad), {"sequence 0", "[0, 7)", "6 tokens"});
  bad = good;
  bad.tape = {.every = 0};
  says(M::check(bad), {"tape.every is 0", "at least 1"});
  bad.tape = {.every = 2, .states = small};
  says(M::check(bad), {"tape has 4 elements", "expected 12"});
}
