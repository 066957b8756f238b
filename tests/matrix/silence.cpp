/// After a signal the state of a silent memory decays to nothing, and no subnormal number is left on the way.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "support/wkv7_run.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

constexpr Index size = 16, signal_tokens = 32, silent_tokens = 4096;
using Memory = Wkv7<float, size>;

/// A signal, then silence: log_w = -0.05 all the time, and k, v and kappa_hat of silent tokens are 0.
RuleRun<Memory> sound() {
  Wkv7Inputs<double> x(11, signal_tokens + silent_tokens, 1, size, size);
  std::fill(x.log_w.begin(), x.log_w.end(), -0.05);
  for (auto* const field : {&x.k, &x.v, &x.kappa_hat})
    std::fill(field->begin() + signal_tokens * size, field->end(), 0.0);
  return wkv7_run<Memory>(x);
}

template <class State> Index subnormal_numbers(State const& state) {
  auto const s = state.view();
  Index n = 0;
  for (Index j = 0; j < s.keys(); ++j)
    for (Index i = 0; i < s.values(); ++i) n += std::fpclassify(s(j, i)) == FP_SUBNORMAL;
  return n;
}

}  // namespace

TEST_CASE("silence: forward takes a state down to 0, in tiles and in chunks") {
  RuleRun<Memory> const run = sound();
  std::vector<Index> const signal{0, signal_tokens}, silence{signal_tokens, signal_tokens + silent_tokens};
  Memory::State state;
  Memory::forward({.x = run.inputs(), .states = {&state, 1}, .offsets = signal});
  CHECK(state != Memory::State());
  Memory::State chunked = state;
  Memory::forward({.x = run.inputs(), .states = {&state, 1}, .offsets = silence});
  CHECK(state == Memory::State());
  std::vector<float> workspace(Memory::chunk_workspace<16>());
  Memory::chunk<16>({.x = run.inputs(), .states = {&chunked, 1}, .offsets = silence}, workspace);
  CHECK(chunked == Memory::State());
}

TEST_CASE("silence: step does so on request, and keeps subnormal numbers without") {
  RuleRun<Memory> const run = sound();
  Memory::State flushed, kept;
  std::vector<float> y(to_size(size));
  for (Index t = 0; t < signal_tokens + silent_tokens; ++t) Memory::step(kept, run.token(t, 0), y.data());
  {
    FlushToZero const flush;
    for (Index t = 0; t < signal_tokens + silent_tokens; ++t) Memory::step(flushed, run.token(t, 0), y.data());
  }
  CHECK(flushed == Memory::State());
  CHECK(subnormal_numbers(kept) > 0);  // where rounding holds them: 0.95 of the smallest number is that number
}

TEST_CASE("silence: segments and what is composed of them keep no subnormal number") {
  RuleRun<Memory> const run = sound();
  std::vector<Index> offsets;
  for (Index t = 0; t <= signal_tokens + silent_tokens; t += 688) offsets.push_back(t);
  REQUIRE(offsets.back() == signal_tokens + silent_tokens);
  std::vector<Memory::Segment> segments(offsets.size() - 1);
  Memory::summarize({.x = run.inputs(), .segments = segments, .offsets = offsets});
  Memory::Segment whole = segments[0], next;
  for (std::size_t i = 1; i < segments.size(); ++i) {
    CHECK(subnormal_numbers(segments[i].a) + subnormal_numbers(segments[i].b) == 0);
    Memory::compose(whole, segments[i], next);
    CHECK(subnormal_numbers(next.a) + subnormal_numbers(next.b) == 0);
    whole = next;
  }
  Memory::State state;
  state.view()(0, 0) = 1;
  Memory::State after;
  Memory::apply(state, whole, after);
  CHECK(subnormal_numbers(after) == 0);
}
