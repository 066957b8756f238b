/// Going back by tokens in a channel memory: afterwards it is as if the rejected tokens had never been run.
#include "aviary/core/tape.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "aviary/wkv4.hpp"
#include "support/channel_case.hpp"

using namespace aviary;
using namespace aviary::test;

namespace {

template <class M> struct Run {
  ChannelCase const& c;
  std::vector<typename M::T> log_w, k, v, u, y;
  std::vector<typename M::State> states;

  explicit Run(ChannelCase const& from)
      : c(from),
        log_w(from.log_w.begin(), from.log_w.end()),
        k(from.k.begin(), from.k.end()),
        v(from.v.begin(), from.v.end()),
        u(from.u.begin(), from.u.end()),
        y(k.size()) {
    typename M::State empty{};
    if constexpr (M::channels == dynamic) empty = typename M::State(c.channels);
    states.assign(to_size(c.sequences()), empty);
  }
  typename M::ForwardCall call(std::span<Index const> offsets) {
    Index const n = c.tokens(), channels = c.channels;
    return {.x = {.log_w = {log_w.data(), 1, channels},
                  .k = {k.data(), n, 1, channels},
                  .v = {v.data(), n, 1, channels},
                  .u = {u.data(), 1, channels}},
            .y = {y.data(), n, 1, channels},
            .states = states,
            .offsets = offsets};
  }
};

}  // namespace

TEST_CASE_TEMPLATE("history: a draft cut back has the bits of the accepted tokens alone", M, Wkv4<float, 20>,
                   Wkv4<double, 5>, Wkv4<float>) {
  ChannelCase const c(4, M::channels == dynamic ? 7 : M::channels, {0, 5, 5, 17});
  for (Index const every : {1, 4})
    for (Index accepted = 0; accepted <= 12; ++accepted) {
      CAPTURE(every);
      CAPTURE(accepted);
      Run<M> draft(c), alone(c);
      auto call = draft.call(c.offsets);
      std::vector<typename M::State> kept(M::tape_size(call.x, c.offsets, every), draft.states.front());
      call.tape = {.every = every, .states = kept};
      M::forward(call);
      Index const at = rewind(call, 2, accepted);
      CHECK(at == (accepted == 12 ? 12 : accepted / every * every));
      std::vector<Index> const rest{5 + at, 5 + accepted}, fewer{0, 5, 5, 5 + accepted};
      auto again = draft.call(rest);
      again.states = std::span(draft.states).last(1);
      M::forward(again);
      M::forward(alone.call(fewer));
      CHECK(draft.states == alone.states);
    }
}

TEST_CASE_TEMPLATE("history: rewound tokens were never run", M, Wkv4<float, 20>, Wkv4<float>) {
  ChannelCase const c(4, M::channels == dynamic ? 7 : M::channels, {0, 12});
  Run<M> run(c), never(c);
  History<typename M::State> history(run.states, 4);
  for (Index t = 0; t < 10; ++t) {
    std::vector<Index> const one{t, t + 1};
    history.record(run.states);
    M::forward(run.call(one));
  }
  CHECK(!history.rewind(run.states, 5));
  CHECK(history.rewind(run.states, 3));
  std::vector<Index> const seven{0, 7};
  M::forward(never.call(seven));
  CHECK(run.states == never.states);
}
