#include "aviary/channel/segment.hpp"

#include <doctest/doctest.h>

#include "aviary/wkv4.hpp"
#include "support/channel_case.hpp"
#include "support/compare.hpp"
#include "support/eager.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

constexpr Index channels = 45;

/// The bound for what passes through logarithms. With large keys these are up to 1000; four roundings of such a number
/// count.
template <class T> double segment_bound(Keys keys) {
  double const rounding = static_cast<double>(std::numeric_limits<T>::epsilon()) / 2;
  return channel_bound<T> + (keys == Keys::natural ? 0 : 4 * 1000 * rounding);
}

/// A sequence in stretches, and their segments.
template <class M> struct Stretches {
  using T = typename M::T;
  ChannelCase const& c;
  std::vector<Index> cuts;
  ChannelRun<M> inputs{c};
  std::vector<typename M::Segment> segments{cuts.size() - 1, channel_state<typename M::Segment>(channels)};
  std::vector<T> y0 = std::vector<T>(inputs.y.size()), m = y0;

  Stretches(ChannelCase const& from, std::vector<Index> at) : c(from), cuts(std::move(at)) {
    Sink<M::channels> const y(y0.data(), c.tokens(), 1, channels), weights(m.data(), c.tokens(), 1, channels);
    M::summarize({.x = inputs.inputs(), .segments = segments, .y = y, .state_weights = weights, .offsets = cuts});
  }
};

template <class M> typename M::Segment neutral() { return channel_state<typename M::Segment>(channels); }

template <class M> typename M::Segment composed(typename M::Segment const& a, typename M::Segment const& b) {
  auto out = neutral<M>();
  M::compose(a, b, out);
  return out;
}

/// Means, and logarithms of weights.
template <class S> ChannelResult in_common_gauge(S const& state) {
  ChannelResult out;
  for (Index i = 0; i < channels; ++i)
    out.add_state(state.num[i], state.den[i],
                  std::numbers::ln2_v<long double> * static_cast<long double>(state.exponent[i]));
  return out;
}

template <class S> void check_same(S const& a, S const& b, double bound) {
  ChannelResult const x = in_common_gauge(a), y = in_common_gauge(b);
  CHECK(max_error(x.mean, y.mean) <= bound);
  CHECK(log_error(x.weight, y.weight) <= bound);
}

constexpr Keys segment_keys[] = {Keys::natural, Keys::strong, Keys::huge, Keys::rising, Keys::falling};

}  // namespace

TEST_CASE_TEMPLATE("segment: any bracketing applied equals forward", M, Wkv4<float>, Wkv4<double>,
                   Wkv4<float, channels>, Wkv4<double, channels>) {
  for (Keys const keys : segment_keys) {
    CAPTURE(name(keys));
    double const bound = segment_bound<typename M::T>(keys);
    ChannelCase const c(21, channels, {0, 0, 60}, keys);  // the second sequence has a state
    ChannelRun<M> whole(c);
    auto const before = whole.states[1];
    M::forward(whole.call());
    Stretches<M> const parts(c, {0, 5, 5, 6, 23, 60});
    auto const& s = parts.segments;
    auto const left = composed<M>(composed<M>(composed<M>(composed<M>(s[0], s[1]), s[2]), s[3]), s[4]);
    auto const right = composed<M>(s[0], composed<M>(s[1], composed<M>(s[2], composed<M>(s[3], s[4]))));
    auto const tree = composed<M>(composed<M>(s[0], composed<M>(s[1], s[2])), composed<M>(s[3], s[4]));
    for (auto const* const segment : {&left, &right, &tree}) {
      auto after = before;
      M::apply(after, *segment, after);
      check_same(after, whole.states[1], bound);
    }
    auto one_by_one = before;
    for (auto const& segment : s) M::apply(one_by_one, segment, one_by_one);
    check_same(one_by_one, whole.states[1], bound);
  }
}

TEST_CASE_TEMPLATE("segment: no token is the neutral element", T, float, double) {
  using M = Wkv4<T>;
  ChannelCase const c(22, channels, {0, 20});
  Stretches<M> const parts(c, {0, 20, 20});
  CHECK(parts.segments[1] == neutral<M>());
  for (auto const& segment :
       {composed<M>(parts.segments[0], neutral<M>()), composed<M>(neutral<M>(), parts.segments[0])}) {
    CHECK(segment.log_w == parts.segments[0].log_w);
    check_same(segment.sums, parts.segments[0].sums, 4 * static_cast<double>(std::numeric_limits<T>::epsilon()));
  }
  CHECK(composed<M>(neutral<M>(), neutral<M>()) == neutral<M>());
}

TEST_CASE_TEMPLATE("segment: summarize is forward from the empty context", T, float, double) {
  using M = Wkv4<T>;
  ChannelCase const c(23, channels, {0, 50}, Keys::strong);
  ChannelRun<M> whole(c);
  M::forward(whole.call());
  Stretches<M> const parts(c, {0, 50});
  CHECK(parts.segments[0].sums == whole.states[0]);
  CHECK(parts.y0 == whole.y);
}

TEST_CASE_TEMPLATE("segment: outputs are corrected once the states are known", M, Wkv4<float>, Wkv4<double>,
                   Wkv4<float, channels>) {
  using T = typename M::T;
  for (Keys const keys : segment_keys) {
    CAPTURE(name(keys));
    ChannelCase const c(24, channels, {0, 0, 60}, keys);
    ChannelResult const expected = reference_result(c);
    Stretches<M> parts(c, {0, 5, 5, 6, 23, 60});
    std::vector<typename M::State> before{parts.inputs.states[1]};
    for (std::size_t i = 0; i + 1 < parts.segments.size(); ++i) {
      before.push_back(before.back());
      M::apply(before[i], parts.segments[i], before.back());
    }
    auto const correct = [&](auto&& executor, std::vector<T>& y) {
      M::add_initial_state({.state_weights = {parts.m.data(), c.tokens(), 1, channels},
                            .y0 = {parts.y0.data(), c.tokens(), 1, channels},
                            .y = {y.data(), c.tokens(), 1, channels},
                            .states = before,
                            .offsets = parts.cuts},
                           executor);
    };
    std::vector<T> y(parts.y0.size()), z(y);
    correct(Serial{}, y);
    CHECK(max_error(y, expected.y) <= segment_bound<T>(keys));
    correct(Backwards{7}, z);
    CHECK(y == z);
    correct(Serial{}, parts.y0);  // in place
    CHECK(y == parts.y0);
  }
}

TEST_CASE("segment: an empty state before it corrects nothing") {
  using M = Wkv4<double>;
  ChannelCase const c(25, channels, {0, 30});
  Stretches<M> const parts(c, {0, 30});
  std::vector<M::State> const empty(1, M::State(channels));
  std::vector<double> y(parts.y0.size());
  M::add_initial_state({.state_weights = {parts.m.data(), 30, 1, channels},
                        .y0 = {parts.y0.data(), 30, 1, channels},
                        .y = {y.data(), 30, 1, channels},
                        .states = empty});
  CHECK(y == parts.y0);
}
