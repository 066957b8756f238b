/// Going back by tokens, whatever the memory: afterwards it is as if the rejected tokens had never been run.
#include "aviary/core/tape.hpp"

#include <doctest/doctest.h>

#include <concepts>
#include <vector>

#include "aviary/wkv7.hpp"
#include "support/allocation_counter.hpp"
#include "support/random.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

/// Sequences for a WKV-7 memory, packed.
template <class M> struct Case {
  using T = typename M::T;
  using State = typename M::State;
  Wkv7Inputs<T> x;
  std::vector<T> y;
  std::vector<State> states;  // (sequences, heads)

  Case(Index tokens, Index heads, Index sequences, Index keys, Index values)
      : x(5, tokens, heads, keys, values), y(to_size(tokens * heads * values)) {
    State state{};
    if constexpr (M::keys == dynamic || M::values == dynamic) state = State(keys, values);
    for (Index s = 0; s < sequences; ++s)
      for (Index h = 0; h < heads; ++h) {
        import_state(state.view(), std::span(x.state).subspan(to_size(h * keys * values), to_size(keys * values)),
                     Orientation::value_key);
        states.push_back(state);
      }
  }
  typename M::ForwardCall call(std::span<Index const> offsets) {
    Index const n = x.tokens, heads = x.heads, keys = x.keys, values = x.values;
    return {.x = {.r = {x.r.data(), n, heads, keys},
                  .log_w = {x.log_w.data(), n, heads, keys},
                  .k = {x.k.data(), n, heads, keys},
                  .v = {x.v.data(), n, heads, values},
                  .kappa_hat = {x.kappa_hat.data(), n, heads, keys},
                  .a = {x.a.data(), n, heads, keys}},
            .y = {y.data(), n, heads, values},
            .states = states,
            .offsets = offsets};
  }
  /// Token after token.
  void decode(Index begin, Index end) {
    for (Index t = begin; t < end; ++t) {
      std::vector<Index> const one{t, t + 1};
      M::forward(call(one));
    }
  }
};

using Fixed = Wkv7<float, 64>;
using Double = Wkv7<double, 5, 9>;
using Dynamic = Wkv7<float, dynamic>;
using Half = Wkv7<float, 16, 24, bf16>;  // a state kept in bf16
template <class M> constexpr Index keys = M::keys == dynamic ? 7 : M::keys;
template <class M> constexpr Index values = M::values == dynamic ? 19 : M::values;
template <class M> Case<M> make_case(Index tokens, Index heads, Index sequences) {
  return Case<M>(tokens, heads, sequences, keys<M>, values<M>);
}

}  // namespace

using M = Fixed;
static_assert(noexcept(rewind(std::declval<M::ForwardCall const&>(), 0, 0)));
static_assert(noexcept(std::declval<History<M::State>&>().record(std::span<M::State const>())));
static_assert(noexcept(std::declval<History<M::State>&>().rewind(std::span<M::State>(), 1)));
static_assert(std::copyable<History<M::State>>);

TEST_CASE_TEMPLATE("history: a draft cut back has the bits of the accepted tokens alone", M, Fixed, Double, Dynamic,
                   Half) {
  std::vector<Index> const offsets{0, 0, 1, 9};  // three drafts, of 0, 1 and 8 tokens
  Index const heads = 2;
  for (Index accepted = 0; accepted <= 8; ++accepted) {
    CAPTURE(accepted);
    auto drafts = make_case<M>(9, heads, 3), alone = make_case<M>(9, heads, 1);
    auto call = drafts.call(offsets);
    std::vector<typename M::State> kept(M::tape_size(call.x, offsets, 1));
    if constexpr (M::keys == dynamic) kept.assign(kept.size(), typename M::State(keys<M>, values<M>));
    call.tape = {.every = 1, .states = kept};
    M::forward(call);
    auto const after = drafts.states;
    CHECK(rewind(call, 0, 0) == 0);
    CHECK(rewind(call, 1, 1) == 1);
    CHECK(drafts.states == after);  // nothing rejected
    CHECK(rewind(call, 2, accepted) == accepted);
    for (std::size_t h = 0; h < 4; ++h) CHECK(drafts.states[h] == after[h]);  // the others stay
    alone.decode(1, 1 + accepted);
    for (std::size_t h = 0; h < 2; ++h) CHECK(drafts.states[4 + h] == alone.states[h]);
  }
}

TEST_CASE_TEMPLATE("history: one state kept every so many tokens, and the rest run again", M, Fixed, Double, Dynamic,
                   Half) {
  std::vector<Index> const offsets{0, 41};
  Index const every = 16;
  for (Index const wanted : {0, 1, 15, 16, 17, 32, 40, 41}) {
    CAPTURE(wanted);
    auto back = make_case<M>(41, 2, 1), never = make_case<M>(41, 2, 1);
    auto call = back.call(offsets);
    std::vector<typename M::State> kept(M::tape_size(call.x, offsets, every), back.states.front());
    call.tape = {.every = every, .states = kept};
    M::forward(call);
    Index const at = rewind(call, 0, wanted);
    CHECK(at == (wanted == 41 ? 41 : wanted / every * every));
    std::vector<Index> const rest{at, wanted}, until{0, wanted};
    M::forward(back.call(rest));
    std::vector<typename M::State> unused(kept.size(), back.states.front());
    auto shorter = never.call(until);
    unused.resize(M::tape_size(shorter.x, until, every));
    shorter.tape = {.every = every, .states = unused};
    M::forward(shorter);
    CHECK(back.states == never.states);
  }
}

TEST_CASE_TEMPLATE("history: rewound tokens were never run", M, Fixed, Double, Dynamic, Half) {
  for (Index const capacity : {1, 3, 8}) {
    for (Index back = 0; back <= capacity; ++back) {
      CAPTURE(capacity);
      CAPTURE(back);
      auto run = make_case<M>(20, 2, 1), never = make_case<M>(20, 2, 1);
      History<typename M::State> history(run.states, capacity);
      CHECK(history.capacity() == capacity);
      CHECK(history.size() == 0);
      for (Index t = 0; t < 11; ++t) {
        history.record(run.states);
        run.decode(t, t + 1);
        CHECK(history.size() == std::min(t + 1, capacity));
      }
      CHECK(history.rewind(run.states, back));
      CHECK(history.size() == capacity - back);
      never.decode(0, 11 - back);
      CHECK(run.states == never.states);
      history.record(run.states);  // another way from here, and back over the fork
      run.decode(15, 16);
      Index const more = history.size();
      CHECK(history.rewind(run.states, more));
      auto before = make_case<M>(20, 2, 1);
      before.decode(0, 11 - back + 1 - more);
      CHECK(run.states == before.states);
      CHECK(history.size() == 0);
    }
  }
}

TEST_CASE("history: goes no further back than is kept") {
  auto run = make_case<M>(9, 1, 1);
  History<M::State> history(run.states, 4);
  CHECK(!history.rewind(run.states, 1));  // nothing is kept yet
  CHECK(history.rewind(run.states, 0));
  for (Index t = 0; t < 9; ++t) {
    history.record(run.states);
    run.decode(t, t + 1);
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

TEST_CASE("history: one without room keeps nothing") {
  auto run = make_case<M>(2, 1, 1);
  History<M::State> history(run.states, 0);
  history.record(run.states);
  CHECK(history.size() == 0);
  CHECK(!history.rewind(run.states, 1));
}

TEST_CASE_TEMPLATE("history: allocates in its constructor alone", M, Fixed, Dynamic) {
  auto run = make_case<M>(9, 2, 1);
  History<typename M::State> history(run.states, 3);
  std::vector<Index> const offsets{0, 9};
  auto call = run.call(offsets);
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
