#pragma once
/// Packed sequences through all heads. A stretch of tokens is taken through the state of one head, which stays in first-level
/// cache, group by group. Then the next head takes the same tokens: its inputs lie beside those that were read, and are on
/// their way already.
#include <algorithm>
#include <span>

#include "aviary/core/executor.hpp"
#include "aviary/core/packing.hpp"
#include "aviary/core/tape.hpp"
#include "aviary/matrix/tokens.hpp"

namespace AVIARY_NAMESPACE::detail {

/// Some tokens of one head, the columns of its state that they go through, and whose turn is next.
template <class M> struct Turn {
  typename M::ForwardCall const& call;
  InputRows<M> const& inputs;
  Index heads, head, token, tokens;
  typename M::View state;
  Index first, last;
  Index next_head, next_token;
  typename M::View next_state;
};

/// Whether tokens of memory M read before they write, and where a group of N has what token m wrote because of it.
template <class M> inline constexpr bool readings = M::Rule::erase != Erase::none;
template <class M> constexpr int reading(int tokens, int m) noexcept {
  return M::Rule::erase == Erase::rank_one ? tokens + m : m;
}

/// Takes tokens through a state in groups: what `forward` does with a turn.
template <class M, class P> class Stepped {
  using T = typename M::T;
  using S = typename M::StateNumber;
  using Groups = GroupsOf<M>;
  using Tokens = HeadTokens<M, P>;
  static constexpr Index tokens_of_group = Groups::template tokens<P>;
  static_assert(tokens_of_whole_groups % tokens_of_group == 0);

 public:
  /// Tokens of a turn: so many that loading a state is little beside them, so few that their inputs fit into the cache.
  static constexpr Index most() noexcept { return 128 / tokens_of_group * tokens_of_group; }
  /// Columns of a state that are not to be parted.
  static constexpr Index block = Groups::template Passes<P, 1>::block;

  void operator()(Turn<M> const& turn) const noexcept {
    Tokens tokens(turn.inputs, turn.head, turn.state.keys(), turn.state.values());
    tokens.in_groups(turn.tokens, [&](auto n, Index first, Index last) { take<n>(turn, tokens, first, last); });
  }

 private:
  /// A share of the next state for each group, the next head's inputs for the same tokens, and this head's inputs for the tokens
  /// after them.
  static void plan_fetches(Turn<M> const& turn, Index groups, FetchPlan& plan) noexcept {
    constexpr Index N = tokens_of_group;
    typename M::View const s = turn.next_state;
    plan.add(s.s, s.keys() * s.stride() * static_cast<Index>(sizeof(S)), groups);
    InputRows<M> const& x = turn.inputs;
    for (int f = 0; f < InputRows<M>::fields; ++f)
      if (x.size(f) > 1) {
        RowCursor next = x.rows(f, turn.next_head);
        next.move(turn.next_token - turn.token);
        plan.add(next, x.rows(f, turn.head), N, x.size(f) * static_cast<Index>(size_of(x.format(f))));
      }
    if (Sink<M::values> const& y = turn.call.y)
      plan.add(y.rows(turn.next_token, turn.next_head), y.rows(turn.token, turn.head), N,
               y.size() * static_cast<Index>(size_of(y.format())));
  }

  /// Tokens [first, last) of the turn, in groups of N. Groups of several tokens come first.
  template <int N>
  AVIARY_NO_INLINE static void take(Turn<M> const& turn, Tokens& tokens, Index first, Index last) noexcept {
    using Passes = typename Groups::template Passes<P, N>;
    typename M::View const s = turn.state;
    Sink<M::values> const& sink = turn.call.y;
    Index const values = s.values();
    bool const in_place =
        sink && sink.format() == format_of<T> && turn.last <= values;  // no row has a place for padding
    RowCursor outputs;
    if (sink) outputs = sink.rows(turn.token + first, turn.head);

    FetchPlan plan;
    if constexpr (N > 1) plan_fetches(turn, last / N, plan);
    for (Index t = turn.token + first; t < turn.token + last; t += N) {
      auto const group = tokens.template next<N>();
      T* y[to_size(N)];
      if (in_place)
        outputs.next(N, y);
      else
        for (int m = 0; m < N; ++m) y[m] = group.y(m);
      Passes::run(s.s, s.stride(), s.keys(), group, y, turn.first, turn.last,
                  plan.ahead(Passes::count(turn.last - turn.first)));
      plan.move();
      if constexpr (readings<M>)
        if (auto const& kept = turn.call.tape.readings)
          for (int m = 0; m < N; ++m)
            kept.put(t + m, turn.head, turn.first, std::min(values, turn.last) - turn.first,
                     group.value(reading<M>(N, m)) + turn.first);
      if (sink && !in_place)
        for (int m = 0; m < N; ++m)
          sink.put(t + m, turn.head, turn.first, std::min(values, turn.last) - turn.first, y[m] + turn.first);
    }
  }
};

/// The forward pass of memory M over one sequence, some of its heads and a stretch of their values; `Engine` takes a turn
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
    View const one = *call.states.of(0, heads);
    Index const row = one.stride();
    Index const line = std::max(alignment / static_cast<Index>(sizeof(S)), Engine::block);
    Index const multiplies = 3 * packing.tokens * heads * one.keys() * row;
    Cut const cut = Cut::of(sequences, heads, row, line, tasks_worth(executor, multiplies));
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
        inputs_(call.x, head_count),
        states_(call.states.of(sequence, head_count)),
        packing_(packing),
        heads_(head_count),
        sequence_(sequence),
        first_value_(first_value),
        last_value_(last_value),
        engine_(engine) {}

  void run_heads(Index first, Index last) noexcept {
    if (first == last) return;
    for_stretches(packing_, sequence_, call_.tape, engine_.most(), [&](Index t, Index n, Index kept) {
      inputs_.move_to(t);
      for (Index h = first; h < last; ++h) {
        if (kept >= 0) keep(state(h), call_.tape.states[to_size(kept * heads_ + h)]);
        bool const wraps = h + 1 == last;  // what comes next may lie past the end: it is only fetched
        Index const next = wraps ? first : h + 1;
        engine_(Turn<M>{call_, inputs_, heads_, h, t, n, state(h), first_value_, last_value_, next, wraps ? t + n : t,
                        state(next)});
      }
    });
  }

  void keep(View from, View to) const noexcept {
    for (Index j = 0; j < from.keys(); ++j)
      std::copy(from[j] + first_value_, from[j] + last_value_, to[j] + first_value_);
  }

  View state(Index h) const noexcept { return states_[h]; }

  Call const& call_;
  InputRows<M> inputs_;
  typename M::State* states_;  // of the sequence
  Packing packing_;
  Index heads_, sequence_, first_value_, last_value_;
  Engine engine_;
};

}  // namespace AVIARY_NAMESPACE::detail
