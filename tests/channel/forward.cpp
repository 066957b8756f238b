#include "aviary/channel/forward.hpp"

#include <doctest/doctest.h>

#include <limits>

#include "aviary/simd/instruction_sets.hpp"
#include "aviary/wkv4.hpp"
#include "support/allocation_counter.hpp"
#include "support/channel_case.hpp"
#include "support/memory_suite.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

ChannelCase make_case(std::vector<Index> offsets, Index channels = 24, Keys keys = Keys::natural) {
  return ChannelCase(11, channels, std::move(offsets), keys);
}

template <class M> ChannelRun<M> run_of(std::vector<Index> offsets, Index channels, Keys keys = Keys::natural) {
  return ChannelRun<M>(make_case(std::move(offsets), channels, keys));
}

template <class M> ChannelRun<M> run(ChannelCase const& c) { return forwarded(ChannelRun<M>(c)); }

template <class T>
void check_result(ChannelCase const& c, Keys keys, ChannelResult const& result, ChannelResult const& expected) {
  double const bound = keys == Keys::natural ? channel_bound<T> : channel_bound_of<T>(c);
  check_close(result.y, expected.y, bound);
  check_close(result.mean, expected.mean, bound);
  check_that(log_error(result.weight, expected.weight) <= channel_bound_of<T>(c), "weights");
}

}  // namespace

#if defined(AVIARY_TEST_ONE_SIZE)
constexpr Index run_time_channels = 45;
#define AVIARY_MEMORIES Wkv4<float>, Wkv4<double, 24>
#else
constexpr Index run_time_channels = 601;
#define AVIARY_MEMORIES Wkv4<float>, Wkv4<double>, Wkv4<float, 64>, Wkv4<double, 24>, Wkv4<float, 37>, Wkv4<double, 1>
#endif

TEST_CASE_TEMPLATE("forward: agrees with the reference, whatever the keys", M, AVIARY_MEMORIES) {
  Index const channels = M::channels == dynamic ? run_time_channels : M::channels;
  for (Keys const keys : all_keys) {
    CAPTURE(name(keys));
    ChannelCase const c = make_case({0, 0, 1, 3, 10, 10, 26, 43, 100, 1000}, channels, keys);
    check_result<typename M::T>(c, keys, run<M>(c).result(), reference_result(c));
  }
}

TEST_CASE_TEMPLATE("step: equals forward bit by bit", M, Wkv4<float>, Wkv4<double>, Wkv4<float, 64>, Wkv4<double, 5>) {
  for (Keys const keys : all_keys) {
    Note const note("keys", name(keys));
    check_steps(run_of<M>({0, 70}, M::channels == dynamic ? run_time_channels : M::channels, keys));
  }
}

TEST_CASE_TEMPLATE("forward: split anywhere equals the whole bit by bit", T, float, double) {
  for (Keys const keys : all_keys) {
    Note const note("keys", name(keys));
    check_splits(run_of<Wkv4<T, 24>>({0, 40}, 24, keys));
  }
}

TEST_CASE("forward: every instruction set agrees with the reference") {
  for (Keys const keys : all_keys) {
    CAPTURE(name(keys));
    ChannelCase const c = make_case({0, 2, 200}, 45, keys);
    ChannelResult const expected = reference_result(c);
    auto const check = [&]<class T>(T) {
      simd::for_each_instruction_set<T>([&](auto set) {
        Note const note("instruction set", set.name);
        ChannelRun<Wkv4<T>> one(c);
        require_empty(Wkv4<T>::check(one.call()));
        Wkv4<T>::template forward<typename decltype(set)::Pack>(one.call());
        check_result<T>(c, keys, one.result(), expected);
      });
    };
    check(0.0f);
    check(0.0);
  }
}

TEST_CASE_TEMPLATE("forward: the same bits whatever the executor", T, float, double) {
  for (Index const channels : {1, 45, 1100}) {
    Note const note("channels", channels);
    check_executors(run_of<Wkv4<T>>({0, 2, 35}, channels, Keys::strong));
  }
}

TEST_CASE("forward: packed sequences are independent") {
  check_packed(run_of<Wkv4<float>>({0, 0, 1, 3, 10, 10, 26, 43, 100}, 37));
  check_states_apart(run_of<Wkv4<float>>({0, 0, 1, 3, 10, 10, 26, 43, 100}, 37));
}

TEST_CASE("forward: tokens outside of all sequences are neither read nor written") {
  check_outside(run_of<Wkv4<float>>({0, 30}, 24), 7, 19, [](auto& run, Index t) {
    for (Index i = 0; i < 24; ++i) run.k[to_size(t * 24 + i)] = std::numeric_limits<float>::quiet_NaN();
  });
}

TEST_CASE_TEMPLATE("forward: padding of a state stays zero, and so do bands around the output", M, Wkv4<float, 37>,
                   Wkv4<double, 5>, Wkv4<float>) {
  check_bands(run_of<M>({0, 23}, M::channels == dynamic ? 130 : M::channels));
}

TEST_CASE("forward: strides and storage types") {
  using M = Wkv4<float, 37>;
  Index const n = 33, channels = 37, stride = 2 * channels + 5;
  ChannelCase c = make_case({0, n}, channels);
  for (float& e : c.v) e = widen(narrow<bf16>(e));
  for (float& e : c.u) e = widen(narrow<f16>(e));
  ChannelRun<M> const plain = run<M>(c);

  std::vector<double> k(to_size(n * stride), 9e9), log_w(c.log_w.begin(), c.log_w.end());
  std::vector<bf16> v;
  std::vector<f16> u;
  for (float const e : c.v) v.push_back(narrow<bf16>(e));
  for (float const e : c.u) u.push_back(narrow<f16>(e));
  for (Index i = 0; i < n * channels; ++i)
    k[to_size(i / channels * stride + i % channels)] = static_cast<double>(c.k[to_size(i)]);
  ChannelRun<M> call(c);
  auto forward = call.call();
  forward.x = {.log_w = {log_w.data(), 1},
               .k = {k.data(), n, 1, channels, stride, 0},
               .v = {v.data(), n, 1},
               .u = {u.data(), 1}};
  std::vector<double> y(to_size(n * 50), -77.0);  // rows of 50
  forward.y = {y.data(), n, 1, channels, 50, 0};
  REQUIRE(M::check(forward) == "");
  M::forward(forward);
  for (Index i = 0; i < n * 50; ++i)
    CHECK(y[to_size(i)] == (i % 50 < channels ? double{plain.y[to_size(i / 50 * channels + i % 50)]} : -77.0));
  CHECK(call.states == plain.states);

  std::vector<bf16> small(to_size(n * channels));  // y in bf16: one rounding more
  ChannelRun<M> again(c);
  auto into_bf16 = again.call();
  into_bf16.y = {small.data(), n, 1};
  M::forward(into_bf16);
  for (std::size_t i = 0; i < small.size(); ++i) CHECK(small[i] == narrow<bf16>(plain.y[i]));
}

TEST_CASE_TEMPLATE("forward: the tape keeps the states before every so many tokens", T, float, double) {
  check_tape(run_of<Wkv4<T>>({0, 0, 1, 9, 41}, 150));
}

TEST_CASE("forward, step: allocate nothing") {
  using M = Wkv4<float>;
  ChannelCase const c = make_case({0, 1, 40}, 300);
  ChannelRun<M> call(c);
  auto const forward = call.call();
  auto const token = call.token(3);
  auto const y = call.output(3);
  Serial serial;
  AllocationCounter const allocations;
  aviary::detail::ChannelForward<M, simd::Native<float>>::run(forward, serial);  // forward without its assertion
  M::step(call.states[0], token, y);
  CHECK(allocations.count() == 0);
}

TEST_CASE_TEMPLATE("forward: outputs are means of the values so far", T, float, double) {
  using M = Wkv4<T>;
  for (Keys const keys : all_keys)
    for (std::uint64_t seed = 0; seed < 5; ++seed) {
      CAPTURE(name(keys));
      ChannelCase const c(seed, 64, {0, 200}, keys);
      ChannelRun<M> const call = run<M>(c);
      for (Index channel = 0; channel < 64; ++channel) {
        double largest = 0;
        for (Index t = 0; t < 200; ++t) {
          std::size_t const at = to_size(t * 64 + channel);
          largest = std::max(largest, std::abs(static_cast<double>(c.v[at])));
          REQUIRE(std::abs(static_cast<double>(call.y[at])) <=
                  largest * (1 + 8 * static_cast<double>(std::numeric_limits<T>::epsilon())));
        }
      }
    }
}

TEST_CASE_TEMPLATE("forward: the largest finite inputs stay finite", T, float, double) {
  using M = Wkv4<T>;
  constexpr T most = std::numeric_limits<T>::max(), infinity = std::numeric_limits<T>::infinity();
  std::vector<T> const numbers{0, 1, -1, 90, -90, T(1e6), T(-1e6), most, -most};
  std::vector<T> const decays{0, -infinity, -most, T(-1e-30), -22, -23, T(-2.3e17)};
  Random random(4);
  constexpr Index channels = 97, tokens = 50;
  std::vector<T> log_w, k, v, u, y(tokens * channels);
  for (Index c = 0; c < channels; ++c) {
    log_w.push_back(decays[to_size(random.below(7))]);
    u.push_back(numbers[to_size(random.below(9))]);
  }
  for (Index i = 0; i < tokens * channels; ++i) {
    k.push_back(numbers[to_size(random.below(9))]);
    v.push_back(static_cast<T>(random.normal()));
  }
  std::vector<typename M::State> states(1, typename M::State(channels));
  M::forward({.x = {.log_w = {log_w.data(), 1, channels},
                    .k = {k.data(), tokens, 1, channels},
                    .v = {v.data(), tokens, 1, channels},
                    .u = {u.data(), 1, channels}},
              .y = {y.data(), tokens, 1, channels},
              .states = states});
  for (T const e : y) REQUIRE(std::abs(e) < 6);
  for (Index c = 0; c < channels; ++c) {
    CHECK(std::isfinite(states[0].num[c]));
    CHECK(states[0].den[c] > 0);
    CHECK(std::isfinite(states[0].exponent[c]));
  }
}

TEST_CASE("forward: NaN in gives NaN out, from there on and in its own channel only") {
  using M = Wkv4<float, 40>;
  for (bool const in_key : {true, false}) {
    ChannelCase c = make_case({0, 20}, 40);
    (in_key ? c.k : c.v)[5 * 40 + 3] = std::numeric_limits<float>::quiet_NaN();
    ChannelRun<M> const call = run<M>(c);
    for (Index i = 0; i < 20 * 40; ++i) CHECK(std::isnan(call.y[to_size(i)]) == (i / 40 >= 5 && i % 40 == 3));
  }
}

TEST_CASE("forward: a token without weight changes no state where nothing decays") {
  using M = Wkv4<float, 40>;
  ChannelCase c = make_case({0, 0, 20}, 40);
  std::fill(c.log_w.begin(), c.log_w.end(), 0.f);
  std::fill(c.k.begin(), c.k.end(), -1e30f);
  ChannelRun<M> const before(c);
  CHECK(run<M>(c).states == before.states);
}

TEST_CASE("forward: one million tokens of one decay lose no digits of it") {
  // The sums of a constant value are a geometric series.
  using M = Wkv4<float, 1>;
  M::State state{};
  std::array<float, 1> const log_w{-1e-4f}, k{0.3f}, v{1}, u{0};
  std::array<float, 1> y{};
  for (int t = 0; t < 1'000'000; ++t) M::step(state, {.log_w = log_w, .k = k, .v = v, .u = u}, y);
  double const w = double{log_w[0]}, expected = double{k[0]} + std::log(std::expm1(1e6 * w) / std::expm1(w));
  CHECK(y[0] == doctest::Approx(1).epsilon(1e-6));
  double const weight = double{state.exponent[0]} * std::numbers::ln2 + std::log(double{state.den[0]});
  CHECK(std::abs(weight - expected) <= 1e-3);  // rounding of the sums: 2^-24 / 1e-4 at most
}

TEST_CASE("check: says what is wrong with a call") {
  using M = Wkv4<float>;
  ChannelCase const c = make_case({0, 6}, 24);
  ChannelRun<M> call(c);
  auto const good = call.call();
  CHECK(M::check(good) == "");
  auto const says = [](std::string const& text, std::initializer_list<char const*> parts) {
    for (char const* const part : parts) CHECK_MESSAGE(text.find(part) != std::string::npos, text, " lacks ", part);
  };
  auto bad = good;
  bad.x.k = {call.k.data(), 5, 1, 24};
  says(M::check(bad), {"k has 5 tokens", "y has 6"});
  bad = good;
  bad.x.v = {call.v.data(), 6, 3, 8};
  says(M::check(bad), {"v has 3 heads", "a divisor of 1, the heads of a channel memory"});
  bad = good;
  bad.x.u = {call.u.data(), 1, 23};
  says(M::check(bad), {"u has 23 channels", "expected 24"});
  bad = good;
  bad.x.log_w = {call.log_w.data(), 2, 12};
  says(M::check(bad), {"log_w has 2 heads"});
  bad = good;
  bad.states = std::span(call.states).first(0);
  says(M::check(bad), {"states has 0 elements", "expected 1"});
  bad = good;
  std::vector<M::State> small(4, M::State(23));
  bad.states = std::span(small).first(1);
  says(M::check(bad), {"states has a size of 23 channels", "expected 24"});
  bad = good;
  std::vector<Index> const beyond{0, 7};
  bad.offsets = beyond;
  says(M::check(bad), {"sequence 0", "[0, 7)", "6 tokens"});
  bad = good;
  bad.tape = {.every = 0};
  says(M::check(bad), {"tape.every is 0", "at least 1"});
  bad.tape = {.every = 2, .states = small};
  says(M::check(bad), {"tape has 4 elements", "expected 3"});
}
