#include "aviary/channel/backward.hpp"

#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <limits>
#include <numbers>

#include "aviary/simd/instruction_sets.hpp"
#include "aviary/wkv4.hpp"
#include "support/allocation_counter.hpp"
#include "support/channel_gradients.hpp"
#include "support/memory_suite.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

ChannelCase make_case(std::vector<Index> offsets, Index channels = 24, Keys keys = Keys::natural) {
  return ChannelCase(12, channels, std::move(offsets), keys);
}

}  // namespace

#if defined(AVIARY_TEST_ONE_SIZE)
constexpr Index run_time_channels = 45;
#define AVIARY_MEMORIES Wkv4<float>, Wkv4<double, 24>
#else
constexpr Index run_time_channels = 601;
#define AVIARY_MEMORIES Wkv4<float>, Wkv4<double>, Wkv4<float, 64>, Wkv4<double, 24>, Wkv4<float, 37>, Wkv4<double, 1>
#endif

TEST_CASE("backward: the reference agrees with central differences, and so does the kernel") {
  ChannelCase const c = make_case({0, 0, 0, 1, 6, 12}, 5);
  ChannelLoss const loss(23, c);
  ChannelGradients const expected = difference_gradients(c, loss);
  check_gradients(reference_gradients(c, loss), expected, {1e-9, 1e-9, 1e-9});
  check_gradients(backward<Wkv4<double>>(c).result(), expected, {1e-9, 1e-9, 1e-9});
}

TEST_CASE_TEMPLATE("backward: agrees with the reference, whatever the keys", M, AVIARY_MEMORIES) {
  Index const channels = M::channels == dynamic ? run_time_channels : M::channels;
  for (Keys const keys : all_keys) {
    CAPTURE(name(keys));
    ChannelCase const c = make_case({0, 0, 1, 3, 10, 10, 26, 43, 100, 1000}, channels, keys);
    check_gradients(backward<M>(c).result(), reference_gradients(c, ChannelLoss(23, c)),
                    bounds_of<typename M::T>(c, keys));
  }
}

TEST_CASE("backward: every instruction set agrees with the reference") {
  for (Keys const keys : all_keys) {
    CAPTURE(name(keys));
    ChannelCase const c = make_case({0, 2, 200}, 45, keys);
    ChannelLoss const loss(23, c);
    ChannelGradients const expected = reference_gradients(c, loss);
    auto const check = [&]<class T>(T) {
      simd::for_each_instruction_set<T>([&](auto set) {
        Note const note("instruction set", set.name);
        using P = typename decltype(set)::Pack;
        check_gradients(backward<Wkv4<T>, P>(BackwardRun<Wkv4<T>>(c, loss)).result(), expected, bounds_of<T>(c, keys));
      });
    };
    check(0.0f);
    check(0.0);
  }
}

TEST_CASE_TEMPLATE("backward: the same bits whatever the executor", T, float, double) {
  for (Index const channels : {1, 45, 1100}) {
    Note const note("channels", channels);
    ChannelCase const c = make_case({0, 2, 2, 35}, channels, Keys::strong);
    BackwardRun<Wkv4<T>> const given(c, ChannelLoss(23, c)), serial = backward(given);
    for (Index const concurrency : {2, 3, 8, 64}) {
      Note const note_concurrency("concurrency", concurrency);
      check_same(backward(given, Backwards{concurrency}), serial);
    }
#if defined(_OPENMP)
    check_same(backward(given, Eager(OpenMp(4))), serial);
#endif
  }
}

TEST_CASE_TEMPLATE("backward: the same bits however far apart the states of the tape are", T, float, double) {
  for (Keys const keys : all_keys) {
    Note const note_keys("keys", name(keys));
    ChannelCase const c = make_case({0, 41, 42}, 24, keys);
    auto const expected = backward<Wkv4<T>>(c);
    for (Index const every : {1, 3, 8, 100}) {
      Note const note("every", every);
      check_same(backward<Wkv4<T>>(c, every), expected);
    }
  }
}

TEST_CASE_TEMPLATE("backward: in stretches, with the gradient of the state handed back, as the whole", T, float,
                   double) {
  using M = Wkv4<T, 24>;
  for (Keys const keys : all_keys)
    for (Index const begin : {0, 1}) {  // the state of the second sequence is not empty
      Note const note_keys("keys", name(keys)), note_begin("sequence", begin);
      ChannelCase const c = begin == 0 ? make_case({0, 40}, 24, keys) : make_case({0, 0, 40}, 24, keys);
      auto const given = BackwardRun<M>(c, ChannelLoss(23, c)), whole = backward(given);
      for (Index const split : {0, 1, 7, 16, 39, 40}) {
        Note const note("split", split);
        BackwardRun<M> parts = given;
        ChannelRun<M> again(c);
        std::vector<Index> const ranges[]{{0, split}, {split, 40}};
        std::vector<typename M::State> kept[2];
        for (int const part : {0, 1}) {
          auto forward = again.call(ranges[part], begin);
          kept[part].resize(M::tape_size(forward.x, ranges[part]));
          forward.tape = {.states = kept[part]};
          M::forward(forward);
        }
        std::vector<T> dlog_w[2], du[2];
        for (int const part : {1, 0}) {
          auto call = parts.call();
          call.tape = {.states = kept[part]};
          call.dstates = std::span(parts.dstates).subspan(to_size(begin));
          call.offsets = ranges[part];
          require_empty(M::check(call));
          M::backward(call);
          dlog_w[part] = parts.dlog_w;
          du[part] = parts.du;
        }
        check_equal(parts.dk, whole.dk);
        check_equal(parts.dv, whole.dv);
        check_that(parts.dstates == whole.dstates, "gradients of states have the same bits");
        for (std::size_t i = 0; i < du[0].size(); ++i) {
          dlog_w[0][i] += dlog_w[1][i];
          du[0][i] += du[1][i];
        }
        check_close(du[0], whole.du, channel_bound<T>);
        check_close(dlog_w[0], whole.dlog_w, 10 * channel_bound<T>);
      }
    }
}

TEST_CASE("backward: packed sequences are independent, and sums over them are added in their order") {
  using M = Wkv4<float>;
  ChannelCase const c = make_case({0, 0, 1, 3, 10, 10, 26, 43, 100}, 37);
  BackwardRun<M> const given(c, ChannelLoss(23, c), 7), whole = backward(given);
  BackwardRun<M> alone = given;
  std::vector<float> dlog_w(37), du(37);
  Index kept = 0;
  for (std::size_t s = 0; s + 1 < c.offsets.size(); ++s) {
    auto call = alone.call();
    call.offsets = std::span(c.offsets).subspan(s, 2);
    call.dstates = std::span(alone.dstates).subspan(s, 1);
    std::size_t const states = M::tape_size(call.x, call.offsets, 7);
    call.tape.states = std::span(alone.kept).subspan(to_size(kept), states);
    kept += static_cast<Index>(states);
    REQUIRE(M::check(call) == "");
    M::backward(call);
    for (std::size_t i = 0; i < 37; ++i) dlog_w[i] += alone.dlog_w[i], du[i] += alone.du[i];
  }
  alone.dlog_w = dlog_w;
  alone.du = du;
  check_same(alone, whole);

  BackwardRun<M> apart = given;  // states of gradients wherever they are kept
  std::size_t const sequences = apart.dstates.size();
  std::vector<M::State> turned(apart.dstates.rbegin(), apart.dstates.rend());
  auto const first = [&](Index s) { return &turned[sequences - 1 - to_size(s)]; };
  auto call = apart.call();
  call.dstates = {first, static_cast<Index>(sequences), 1};
  REQUIRE(M::check(call) == "");
  M::backward(call, Backwards{3});
  apart.dstates.assign(turned.rbegin(), turned.rend());
  check_same(apart, whole);
}

TEST_CASE_TEMPLATE("backward: what is not wanted changes no bit of what is", T, float, double) {
  using M = Wkv4<T>;
  ChannelCase const c = make_case({0, 3, 30}, 45);
  ChannelLoss const loss(23, c);
  BackwardRun<M> const given(c, loss), all = backward(given);
  for (int const wanted : {0, 1, 2, 4, 8, 5, 10}) {
    Note const note("wanted", wanted);
    BackwardRun<M> some = given;
    auto call = some.call();
    if ((wanted & 1) == 0) call.dx.log_w = {};
    if ((wanted & 2) == 0) call.dx.k = {};
    if ((wanted & 4) == 0) call.dx.v = {};
    if ((wanted & 8) == 0) call.dx.u = {};
    require_empty(M::check(call));
    M::backward(call);
    check_equal(some.dlog_w, (wanted & 1) != 0 ? all.dlog_w : given.dlog_w);
    check_equal(some.dk, (wanted & 2) != 0 ? all.dk : given.dk);
    check_equal(some.dv, (wanted & 4) != 0 ? all.dv : given.dv);
    check_equal(some.du, (wanted & 8) != 0 ? all.du : given.du);
    check_that(some.dstates == all.dstates, "gradients of states have the same bits");
  }
  BackwardRun<M> zero = given, none = given;  // no gradients of final states
  for (auto& ds : zero.dstates) ds.clear();
  auto call = none.call();
  call.dstates = std::span<typename M::State>();
  require_empty(M::check(call));
  M::backward(call);
  zero = backward(zero);
  check_that(!(zero.dstates == given.dstates), "initial states have gradients");
  none.dstates = zero.dstates;
  check_same(none, zero);
}

TEST_CASE("backward: strides and storage types") {
  using M = Wkv4<float, 37>;
  Index const n = 33, channels = 37, stride = 2 * channels + 5;
  ChannelCase c = make_case({0, 11, n}, channels);
  ChannelLoss loss(23, c);
  for (float& e : c.v) e = widen(narrow<bf16>(e));
  for (float& e : c.u) e = widen(narrow<f16>(e));
  for (float& e : loss.dy) e = widen(narrow<bf16>(e));
  BackwardRun<M> const given(c, loss), plain = backward(given);

  std::vector<double> k(to_size(n * stride), 9e9), log_w(c.log_w.begin(), c.log_w.end());
  std::vector<bf16> v, dy;
  std::vector<f16> u;
  for (float const e : c.v) v.push_back(narrow<bf16>(e));
  for (float const e : loss.dy) dy.push_back(narrow<bf16>(e));
  for (float const e : c.u) u.push_back(narrow<f16>(e));
  for (Index i = 0; i < n * channels; ++i)
    k[to_size(i / channels * stride + i % channels)] = static_cast<double>(c.k[to_size(i)]);
  typename M::Inputs const x{.log_w = {log_w.data(), 1},
                             .k = {k.data(), n, 1, channels, stride, 0},
                             .v = {v.data(), n, 1},
                             .u = {u.data(), 1}};
  BackwardRun<M> stored = given;  // 16-bit and double inputs, float gradients
  auto call = stored.call();
  call.x = x;
  call.dy = {dy.data(), n, 1};
  REQUIRE(M::check(call) == "");
  M::backward(call);
  check_same(stored, plain);

  std::vector<double> dk(to_size(n * 50), -77.0), dlog_w(to_size(channels));  // rows of 50
  std::vector<bf16> dv(to_size(n * channels));
  std::vector<f16> du(to_size(channels));
  BackwardRun<M> other = given;  // gradients in other formats: one rounding more
  call = other.call();
  call.dx = {.log_w = {dlog_w.data(), 1},
             .k = {dk.data(), n, 1, channels, 50, 0},
             .v = {dv.data(), n, 1},
             .u = {du.data(), 1}};
  REQUIRE(M::check(call) == "");
  M::backward(call, Backwards{3});
  for (Index i = 0; i < n * 50; ++i)
    CHECK(dk[to_size(i)] == (i % 50 < channels ? double{plain.dk[to_size(i / 50 * channels + i % 50)]} : -77.0));
  check_equal(dlog_w, plain.dlog_w);
  for (std::size_t i = 0; i < dv.size(); ++i) CHECK(dv[i] == narrow<bf16>(plain.dv[i]));
  for (std::size_t i = 0; i < du.size(); ++i) CHECK(du[i] == narrow<f16>(plain.du[i]));
}

TEST_CASE_TEMPLATE("backward: writes nothing but gradients of its tokens", M, Wkv4<float, 37>, Wkv4<double, 5>,
                   Wkv4<float>) {
  using T = typename M::T;
  Index const channels = M::channels == dynamic ? 130 : M::channels, n = 30, begin = 7, end = 19;
  ChannelCase const c = make_case({0, n}, channels);
  BackwardRun<M> run(c, ChannelLoss(23, c));
  std::vector<Index> const inside{begin, end};
  ChannelRun<M> again(c);
  for (Index i = 0; i < n * channels; ++i)
    if (i / channels < begin || i / channels >= end)
      run.run.k[to_size(i)] = again.k[to_size(i)] = run.dy[to_size(i)] = std::numeric_limits<T>::quiet_NaN();
  auto forward = again.call(inside, 0);
  forward.tape = run.tape();
  forward.tape.states = forward.tape.states.first(M::tape_size(forward.x, inside));
  M::forward(forward);
  std::size_t const band = 32, numbers = to_size(n * channels);
  std::vector<T> dk(numbers + 2 * band, T(-77)), dv(dk), du(to_size(channels) + 2 * band, T(-77)), dlog_w(du),
      workspace(run.workspace.size() + 2 * band, T(-77));
  auto call = run.call();
  call.offsets = inside;
  call.tape = forward.tape;
  call.dx = {.log_w = {dlog_w.data() + band, 1, channels},
             .k = {dk.data() + band, n, 1, channels},
             .v = {dv.data() + band, n, 1, channels},
             .u = {du.data() + band, 1, channels}};
  std::size_t const needed = M::backward_workspace(call.x, inside);
  call.workspace = std::span(workspace).subspan(band, needed);
  require_empty(M::check(call));
  M::backward(call, Backwards{3});
  auto const check_band = [&](char const* what, std::vector<T> const& x, std::size_t first, std::size_t size) {
    check_each(static_cast<Index>(x.size()), what, [&](Index i) {
      bool const in = to_size(i) >= first && to_size(i) < first + size;
      return in ? std::isfinite(x[to_size(i)]) && (size > needed || x[to_size(i)] != -77) : x[to_size(i)] == -77;
    });
  };
  std::size_t const first = band + to_size(begin * channels), written = to_size((end - begin) * channels);
  check_band("dk is written for tokens of the sequence", dk, first, written);
  check_band("dv is written for tokens of the sequence", dv, first, written);
  check_band("du is written", du, band, to_size(channels));
  check_band("dlog_w is written", dlog_w, band, to_size(channels));
  for (std::size_t i = 0; i < workspace.size(); ++i)
    if (i < band || i >= band + needed) REQUIRE(workspace[i] == -77);
  for (auto const& state : run.dstates) {
    std::vector<double> const padding = ChannelRun<M>::padding(state);
    check_each(static_cast<Index>(padding.size()), "padding is 0", [&](Index i) { return padding[to_size(i)] == 0; });
  }
}

TEST_CASE("backward: sequences without a token") {
  using M = Wkv4<float, 24>;
  ChannelCase const c = make_case({0, 0, 0}, 24);
  BackwardRun<M> const given(c, ChannelLoss(23, c)), run = backward(given);
  CHECK(run.dstates == given.dstates);  // gradients go through
  check_equal(run.dlog_w, std::vector<float>(24));
  check_equal(run.du, std::vector<float>(24));

  ChannelCase const no_sequence = make_case({0}, 24);
  BackwardRun<M> const none = backward(BackwardRun<M>(no_sequence, ChannelLoss(23, no_sequence)));
  check_equal(none.dlog_w, std::vector<float>(24));
  check_equal(none.du, std::vector<float>(24));
}

TEST_CASE("import_state: gradients of aa and bb at some pp") {
  std::array<double, 4> const daa{1.5, -3, 0, 0}, dbb{0, 2, -0.25, 0}, minus_pp{-70.25, 300, 2, 1e30};
  Wkv4<double, 4>::StateGradient ds;
  import_state(ds.view(), daa, dbb, minus_pp);
  for (Index c = 0; c < 4; ++c) {
    double const unit = std::exp(ds.exponent[c] * std::numbers::ln2 - (c < 3 ? minus_pp[to_size(c)] : 0));
    check_approx(std::array{ds.num[c] * unit, ds.den[c] * unit}, std::array{daa[to_size(c)], dbb[to_size(c)]}, 1e-13);
  }
}

TEST_CASE("backward: allocates nothing") {
  using M = Wkv4<float>;
  ChannelCase const c = make_case({0, 1, 40}, 300);
  BackwardRun<M> run(c, ChannelLoss(23, c));
  auto const call = run.call();
  Serial serial;
  AllocationCounter const allocations;
  aviary::detail::ChannelBackward<M, simd::Native<float>>::run(call, serial);  // backward without its assertion
  CHECK(allocations.count() == 0);
}

TEST_CASE_TEMPLATE("backward: the largest finite inputs have finite gradients", T, float, double) {
  using M = Wkv4<T>;
  constexpr T most = std::numeric_limits<T>::max(), infinity = std::numeric_limits<T>::infinity();
  std::vector<T> const numbers{0, 1, -1, 90, -90, T(1e6), T(-1e6), most, -most};
  std::vector<T> const decays{0, -infinity, -most, T(-1e-30), -22, -23, T(-2.3e17)};
  ChannelCase const c = make_case({0, 50, 51, 100}, 97);
  ChannelLoss const loss(23, c);
  for (std::uint64_t seed = 0; seed < 5; ++seed) {
    Random random(seed);
    BackwardRun<M> run(c, loss);
    ChannelRun<M> again(c);
    for (T& e : again.log_w) e = decays[to_size(random.below(7))];
    for (T& e : again.u) e = numbers[to_size(random.below(9))];
    for (T& e : again.k) e = numbers[to_size(random.below(9))];
    run.run.log_w = again.log_w, run.run.u = again.u, run.run.k = again.k;
    auto forward = again.call();
    forward.tape = run.tape();
    M::forward(forward);
    for (std::size_t s = 0; s < run.dstates.size(); ++s)
      for (Index i = 0; i < c.channels; ++i) {
        run.dstates[s].exponent[i] = -again.states[s].exponent[i];
        run.dstates[s].num[i] = 1 / again.states[s].den[i];
        run.dstates[s].den[i] = -again.states[s].num[i] / again.states[s].den[i] / again.states[s].den[i];
      }
    auto const result = backward(run);
    T largest = 0;
    for (Index i = 0; i < 97; ++i) {
      CHECK(std::isfinite(result.dlog_w[to_size(i)]));
      CHECK(std::isfinite(result.du[to_size(i)]));
      for (auto const& ds : result.dstates) {
        CHECK(std::isfinite(ds.num[i]));
        CHECK(std::isfinite(ds.den[i]));
        CHECK(std::isfinite(ds.exponent[i]));
      }
    }
    for (std::size_t i = 0; i < result.dk.size(); ++i) {
      largest = std::max({largest, std::abs(result.dk[i]), std::abs(result.dv[i])});
      REQUIRE(std::isfinite(result.dk[i]));
      REQUIRE(std::isfinite(result.dv[i]));
    }
    CHECK(largest < 51 * 4 * 8);  // a share of at most 1, in 51 means, of dy < 4 and twice |v| < 4
  }
}

TEST_CASE("backward: NaN in gives NaN out, in its own channel only") {
  using M = Wkv4<float, 40>;
  ChannelCase c = make_case({0, 20}, 40);
  c.k[5 * 40 + 3] = std::numeric_limits<float>::quiet_NaN();
  ChannelLoss loss(23, c);
  auto const run = backward(BackwardRun<M>(c, loss));
  for (Index i = 0; i < 20 * 40; ++i) CHECK(std::isnan(run.dk[to_size(i)]) == (i % 40 == 3));
  for (Index i = 0; i < 40; ++i) CHECK(std::isnan(run.dlog_w[to_size(i)]) == (i == 3));
}

TEST_CASE("check: says what is wrong with a call of backward") {
  using M = Wkv4<float>;
  ChannelCase const c = make_case({0, 6}, 24);
  BackwardRun<M> run(c, ChannelLoss(23, c), 2);
  auto const good = run.call();
  CHECK(M::check(good) == "");
  auto const says = [](std::string const& text, std::initializer_list<char const*> parts) {
    for (char const* const part : parts) CHECK_MESSAGE(text.find(part) != std::string::npos, text, " lacks ", part);
  };
  auto bad = good;
  bad.x.k = {run.run.k.data(), 5, 1, 24};
  says(M::check(bad), {"wkv4: backward: k has 5 tokens", "dy has 6"});
  bad = good;
  bad.dy = {run.dy.data(), 6, 2, 12};
  says(M::check(bad), {"dy has 2 heads"});
  bad = good;
  bad.dy = {static_cast<float const*>(nullptr), 6, 1, 24};
  says(M::check(bad), {"dy is a null pointer"});
  bad = good;
  bad.x.u = {run.run.u.data(), 1, 23};
  says(M::check(bad), {"u has 23 channels", "expected 24"});
  bad = good;
  bad.dx.k = {run.dk.data(), 6, 1, 23};
  says(M::check(bad), {"dx.k has 23 channels", "expected 24"});
  bad = good;
  bad.dx.v = {run.dv.data(), 7, 1, 24};
  says(M::check(bad), {"dx.v has 7 tokens", "dy has 6"});
  bad = good;
  bad.dx.v = {run.dk.data(), 6, 1, 24};
  says(M::check(bad), {"dx.k lies where dx.v does"});
  bad = good;
  bad.dx.k = {run.dy.data(), 6, 1, 24};
  says(M::check(bad), {"dx.k lies where dy does"});
  bad = good;
  bad.dx.log_w = {run.dlog_w.data(), 2, 12};
  says(M::check(bad), {"dx.log_w has 2 heads"});
  bad = good;
  bad.tape = {};
  says(M::check(bad), {"tape has 0 elements", "expected 1"});
  bad.tape = {.every = 3, .states = run.kept};
  says(M::check(bad), {"tape has 3 elements", "expected 2"});
  bad.tape = {.every = 0, .states = run.kept};
  says(M::check(bad), {"tape.every is 0", "at least 1"});
  std::vector<M::State> small(3, M::State(23));
  bad.tape = {.every = 2, .states = small};
  says(M::check(bad), {"tape has a size of 23 channels", "expected 24"});
  bad = good;
  bad.dstates = small;
  says(M::check(bad), {"dstates has 3 elements", "expected 1"});
  bad = good;
  bad.workspace = bad.workspace.first(bad.workspace.size() - 1);
  std::string const size = std::to_string(run.workspace.size()), less = std::to_string(run.workspace.size() - 1);
  says(M::check(bad), {("workspace has " + less + " numbers").c_str(), ("expected at least " + size).c_str()});
  bad = good;
  std::vector<Index> const beyond{0, 7};
  bad.offsets = beyond;
  says(M::check(bad), {"sequence 0", "[0, 7)", "6 tokens"});
}
