#pragma once
/// Packed sequences through all heads. A tile of tokens is prepared into scratch on the stack, then run over the state of
/// one head while that lies in first-level cache; heads inside, tiles of tokens outside.
#include <algorithm>
#include <span>

#include "aviary/core/executor.hpp"
#include "aviary/core/packing.hpp"
#include "aviary/matrix/tile.hpp"

namespace aviary::detail {

/// The forward pass of memory M with batches P over one sequence, some of its heads and a stretch of their values.
template <class M, class P> class ForwardPass {
  using T = typename M::T;
  using S = typename M::StateNumber;
  using Call = typename M::Forward;
  using View = typename M::View;

 public:
  template <class E> static void run(Call const& call, E& executor) {
    Packing const packing{call.offsets, input_tokens<typename M::Rule>(call.x)};
    Index const heads = call.y.heads(), sequences = packing.sequences();
    if (sequences * heads == 0) return;
    Index const row = View(call.states.front()).stride(), line = alignment / static_cast<Index>(sizeof(S));
    Cut const cut = Cut::of(sequences, heads, row, line, executor.concurrency());
    executor(sequences * cut.head_tasks * cut.row_tasks, [&](Index task) noexcept {
      Index const group = task / cut.row_tasks, sequence = group / cut.head_tasks;
      Index const head = group % cut.head_tasks * cut.heads_per_task, value = task % cut.row_tasks * cut.row_per_task;
      ForwardPass const pass{call, packing, sequence, value, std::min(row, value + cut.row_per_task)};
      pass.heads(head, std::min(heads, head + cut.heads_per_task));
    });
  }

 private:
  ForwardPass(Call const& call, Packing packing, Index sequence, Index first_value, Index last_value) noexcept
      : call_(call), packing_(packing), sequence_(sequence), first_value_(first_value), last_value_(last_value) {}

  void heads(Index first, Index last) const noexcept {
    Index const begin = packing_.begin(sequence_), end = packing_.end(sequence_);
    bool const keeps = !call_.tape.states.empty();
    Index const every = call_.tape.every, kept = keeps ? packing_.kept_before(sequence_, every) : 0;
    Index const most = first < last ? Scratch<M>::tokens(state(first).keys(), state(first).values()) : 0;
    for (Index t = begin, n = 0; t < end; t += n) {
      Index const since = keeps ? (t - begin) % every : 0;
      n = std::min({end - t, most, keeps ? every - since : most});
      for (Index h = first; h < last; ++h) {
        if (keeps && since == 0) keep(state(h), call_.tape.states[at(kept + (t - begin) / every, h)]);
        tile(h, t, n);
      }
    }
  }

  /// Tokens t ... t + n - 1 of head h.
  void tile(Index h, Index t, Index n) const noexcept {
    View const s = state(h);
    Tile<M, P> tile(input_head<typename M::Rule>(call_.x, h, call_.y.heads()), t, n, s.keys(), s.values());
    tile.run(
        s.s, s.stride(), first_value_, last_value_,
        [&]<class Q>(Index i, Index m) { return simd::Pack<Q>::load(tile.token(m).v() + i); },
        [&](Index i, Index m, auto const& y) { put_lanes<T>(call_.y, t + m, h, i, y); });
  }

  void keep(View from, View to) const noexcept {
    for (Index j = 0; j < from.keys(); ++j)
      std::copy(from[j] + first_value_, from[j] + last_value_, to[j] + first_value_);
  }

  std::size_t at(Index sequence, Index h) const noexcept { return to_size(sequence * call_.y.heads() + h); }
  View state(Index h) const noexcept { return call_.states[at(sequence_, h)]; }

  Call const& call_;
  Packing packing_;
  Index sequence_, first_value_, last_value_;
};

}  // namespace aviary::detail
