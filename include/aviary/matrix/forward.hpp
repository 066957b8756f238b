#pragma once
/// Packed sequences through all heads. A tile of tokens is prepared into scratch on the stack, then run over the state of
/// one head, which stays in first-level cache for a few tiles. Then the next head takes the same tokens: its inputs lie
/// beside those that were read.
#include <algorithm>
#include <span>

#include "aviary/core/executor.hpp"
#include "aviary/core/packing.hpp"
#include "aviary/core/tape.hpp"
#include "aviary/matrix/tile.hpp"

namespace AVIARY_NAMESPACE::detail {

/// Takes tiles through a state by stepping: what `forward` does with a tile.
template <class M, class P> struct Stepped {
  static constexpr Index tokens(Index keys, Index values) noexcept { return TileSizes<M>::tokens(keys, values); }

  /// Tokens t ... t + n - 1 of head h, whose inputs are x, for columns [first, last) of its state.
  void operator()(typename M::Inputs const& x, Sink<M::values> const& y, Index h, Index t, Index n, typename M::View s,
                  Index first, Index last) const noexcept {
    Tile<M, P> tile(x, t, n, s.keys(), s.values());
    tile.run(
        s.s, s.stride(), first, last,
        [&]<class Q>(Index i, Index m) { return simd::Pack<Q>::load(tile.token(m).v() + i); },
        [&](Index i, Index m, auto const& lanes) { put_lanes<typename M::T>(y, t + m, h, i, lanes); });
  }
};

/// The forward pass of memory M over one sequence, some of its heads and a stretch of their values; `Engine` takes a tile
/// of tokens through one state.
template <class M, class Engine> class ForwardPass {
  using S = typename M::StateNumber;
  using Call = typename M::ForwardCall;
  using View = typename M::View;

 public:
  template <class E> static void run(Call const& call, E& executor, Engine const& engine = {}) {
    Packing const packing{call.offsets, call.tokens()};
    if (call.states.empty()) return;
    Index const sequences = packing.sequences(), heads = static_cast<Index>(call.states.size()) / sequences;
    Index const row = View(call.states.front()).stride(), line = alignment / static_cast<Index>(sizeof(S));
    Cut const cut = Cut::of(sequences, heads, row, line, executor.concurrency());
    run_tasks(executor, sequences * cut.head_tasks * cut.row_tasks, [&](Index task) noexcept {
      Index const group = task / cut.row_tasks, sequence = group / cut.head_tasks;
      Index const head = group % cut.head_tasks * cut.heads_per_task, value = task % cut.row_tasks * cut.row_per_task;
      ForwardPass pass{call, packing, heads, sequence, value, std::min(row, value + cut.row_per_task), engine};
      pass.run_heads(head, std::min(heads, head + cut.heads_per_task));
    });
  }

 private:
  ForwardPass(Call const& call, Packing packing, Index head_count, Index sequence, Index first_value, Index last_value,
              Engine const& engine) noexcept
      : call_(call),
        packing_(packing),
        heads_(head_count),
        sequence_(sequence),
        first_value_(first_value),
        last_value_(last_value),
        engine_(engine) {}

  /// Tiles after which the next head has its turn.
  static constexpr Index tiles = 8;

  void run_heads(Index first, Index last) noexcept {
    if (first == last) return;
    Index const tile = engine_.tokens(state(first).keys(), state(first).values());
    for_stretches(packing_, sequence_, call_.tape, tiles * tile, [&](Index t, Index n, Index kept) {
      for (Index h = first; h < last; ++h) {
        if (kept >= 0) keep(state(h), call_.tape.states[at(kept, h)]);
        auto const x = input_head<typename M::Rule>(call_.x, h, heads_);
        for (Index done = 0; done < n; done += tile)
          engine_(x, call_.y, h, t + done, std::min(tile, n - done), state(h), first_value_, last_value_);
      }
    });
  }

  void keep(View from, View to) const noexcept {
    for (Index j = 0; j < from.keys(); ++j)
      std::copy(from[j] + first_value_, from[j] + last_value_, to[j] + first_value_);
  }

  std::size_t at(Index sequence, Index h) const noexcept { return to_size(sequence * heads_ + h); }
  View state(Index h) const noexcept { return call_.states[at(sequence_, h)]; }

  Call const& call_;
  Packing packing_;
  Index heads_, sequence_, first_value_, last_value_;
  Engine engine_;
};

}  // namespace AVIARY_NAMESPACE::detail
