/// Going back by tokens, whatever the memory: afterwards it is as if the rejected tokens had never been run.
#include "aviary/core/tape.hpp"

#include <doctest/doctest.h>

#include <concepts>
#include <vector>

#include "aviary/wkv4.hpp"
#include "aviary/wkv7.hpp"
#include "support/allocation_counter.hpp"
#include "support/channel_case.hpp"
#include "support/memory_suite.hpp"
#include "support/rule_case.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

using M = Wkv7<float, 64>;
using Double = Wkv7<double, 5, 9>;
using Dynamic = Wkv7<float, dynamic>;
using Half = Wkv7<float, 16, 24, bf16>;  // a state kept in bf16

/// Packed sequences through a memory of either kind: two heads, or some channels.
template <class M> auto make_run(std::vector<Index> offsets) {
  if constexpr (requires { M::channels; }) {
    return ChannelRun<M>(ChannelCase(4, M::channels == dynamic ? 7 : M::channels, std::move(offsets)));
  } else {
    Index const keys = M::keys == dynamic ? 7 : M::keys, values = M::values == dynamic ? 19 : M::values, heads = 2;
    Shape const shape{keys, values, heads, std::move(offsets)};
    Random random(5);
    Index const rows = shape.tokens() * heads, states = shape.sequences() * heads;
    return RuleRun<M>(RuleCase<Wkv7Rule>{shape,
                                         {.r = random.normals<double>(rows * keys),
                                          .log_w = random.log_decays<double>(rows * keys, Decay::wkv7),
                                          .k = random.normals<double>(rows * keys),
                                          .v = random.normals<double>(rows * values),
                                          .kappa_hat = random.units<double>(rows, keys),
                                          .a = random.rates<double>(rows * keys)},
                                         random.normals<double>(states * values * keys)});
  }
}

}  // namespace

static_assert(noexcept(rewind(std::declval<M::ForwardCall const&>(), 0, 0)));
static_assert(noexcept(std::declval<History<M::State>&>().record(std::span<M::State const>())));
static_assert(noexcept(std::declval<History<M::State>&>().rewind(std::span<M::State>(), 1)));
static_assert(std::copyable<History<M::State>>);

#define AVIARY_MEMORIES M, Double, Dynamic, Half, Wkv4<float, 20>, Wkv4<double, 5>, Wkv4<float>

TEST_CASE_TEMPLATE("history: a draft cut back has the bits of the accepted tokens alone", M, AVIARY_MEMORIES) {
  auto const drafts = make_run<M>({0, 0, 1, 13});  // of 0, 1 and 12 tokens
  for (Index const every : {1, 4})
    for (Index accepted = 0; accepted <= 12; ++accepted) check_draft(drafts, every, accepted);
}

TEST_CASE_TEMPLATE("history: one state kept every so many tokens, and the rest run again", M, AVIARY_MEMORIES) {
  auto const draft = make_run<M>({0, 41});
  for (Index const accepted : {0, 1, 15, 16, 17, 32, 40, 41}) check_draft(draft, 16, accepted);
}

TEST_CASE_TEMPLATE("history: rewound tokens were never run", M, AVIARY_MEMORIES) {
  auto const given = make_run<M>({0, 20});
  for (Index const capacity : {1, 3, 8})
    for (Index back = 0; back <= capacity; ++back) check_history(given, capacity, back);
}

TEST_CASE_TEMPLATE("history: goes no further back than is kept", M, Double, Wkv4<float>) {
  auto run = make_run<M>({0, 9});
  History<typename M::State> history(run.states, 4);
  CHECK(!history.rewind(run.states, 1));  // nothing is kept yet
  CHECK(history.rewind(run.states, 0));
  for (Index t = 0; t < 9; ++t) {
    history.record(run.states);
    decode(run, t, t + 1);
  }
  auto const now = run.states;
  CHECK(!history.rewind(run.states, 5));
  CHECK(run.states == now);  // and nothing changed
  CHECK(history.size() == 4);
  CHECK(history.rewind(run.states, 4));
  CHECK(!history.rewind(run.states, 1));
  run.states = now;
  history.record(run.states);
  history.clear();
  CHECK(!history.rewind(run.states, 1));
  CHECK(run.states == now);
}

TEST_CASE_TEMPLATE("history: one without room keeps nothing", M, Double, Wkv4<float>) {
  auto run = make_run<M>({0, 2});
  History<typename M::State> history(run.states, 0);
  history.record(run.states);
  CHECK(history.size() == 0);
  CHECK(!history.rewind(run.states, 1));
}

TEST_CASE_TEMPLATE("history: allocates in its constructor alone", M, Double, Dynamic, Wkv4<float>) {
  auto run = make_run<M>({0, 9});
  History<typename M::State> history(run.states, 3);
  std::vector<Index> const offsets{0, 9};
  auto call = run.call(offsets, 0);
  std::vector<typename M::State> kept(M::tape_size(call.x, offsets, 1), run.states.front());
  call.tape = {.every = 1, .states = kept};
  AllocationCounter const allocations;
  for (int i = 0; i < 5; ++i) history.record(run.states);
  bool const went = history.rewind(run.states, 2) && !history.rewind(run.states, 2);
  Index const at = rewind(call, 0, 4);
  CHECK(allocations.count() == 0);
  CHECK(went);
  CHECK(at == 4);
}
