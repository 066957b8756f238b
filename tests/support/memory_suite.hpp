#pragma once
/// What forward and tapes owe whatever the memory. Each function takes a run (RuleRun or ChannelRun) before its first token,
/// and copies it.
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "aviary/core/tape.hpp"
#include "support/check.hpp"
#include "support/eager.hpp"
#include "support/rule_case.hpp"

namespace aviary::test {

/// All sequences of a run, by an executor.
template <class Run, class E = Serial> Run forwarded(Run run, E&& executor = {}) {
  require_empty(Run::Memory::check(run.call()));
  Run::Memory::forward(run.call(), executor);
  return run;
}

template <class Run> void check_bits(Run const& x, Run const& expected) {
  check_equal(x.y, expected.y);
  check_that(x.states == expected.states, "final states have the same bits");
}

/// Two ways through the same tokens: the same bits where the memory says so, else two errors apart at most.
template <class Run> void check_agree(Run const& x, Run const& expected) {
  if constexpr (Run::same_bits)
    check_bits(x, expected);
  else
    check_close(x.result(), expected.result(), 2 * matrix_bound<typename Run::T>);
}

/// A state reached in two ways.
template <class Run> void check_state(typename Run::State const& x, typename Run::State const& expected) {
  if constexpr (Run::same_bits)
    check_that(x == expected, "states have the same bits");
  else
    check_approx(numbers_of(std::vector{x}, x.keys(), x.values()),
                 numbers_of(std::vector{expected}, expected.keys(), expected.values()), 1e-4);
}

/// forward equals a loop of step.
template <class Run> void check_steps(Run const& given) {
  Run steps = given;
  steps.steps();
  check_agree(forwarded(given), steps);
}

/// One sequence, split anywhere, equals the whole.
template <class Run> void check_splits(Run const& given) {
  Run const whole = forwarded(given);
  Index const begin = given.offsets().front(), end = given.offsets().back();
  for (Index split = begin; split <= end; ++split) {
    Note const note("split", split);
    Run parts = given;
    std::vector<Index> const first{begin, split}, second{split, end};
    Run::Memory::forward(parts.call(first, 0));
    Run::Memory::forward(parts.call(second, 0));
    check_agree(parts, whole);
  }
}

/// One sequence in calls of whole groups has the bits of one call.
template <class Run> void check_whole_groups(Run const& given) {
  Index const begin = given.offsets().front(), end = given.offsets().back();
  Run const whole = forwarded(given);
  for (Index const groups : {1, 3, 11}) {
    Note const note("tokens of a call", groups * tokens_of_whole_groups);
    Run parts = given;
    for (Index at = begin, next; at < end; at = next) {
      next = std::min(at + groups * tokens_of_whole_groups, end);
      std::vector<Index> const part{at, next};
      Run::Memory::forward(parts.call(part, 0));
    }
    check_bits(parts, whole);
  }
}

/// States that lie apart, those of later sequences first, have the bits of states in one place.
template <class Run> void check_states_apart(Run const& given) {
  Run run = given;
  auto call = run.call();
  std::size_t const sequences = given.offsets().size() - 1, each = to_size(given.heads());
  std::vector<std::vector<typename Run::State>> apart(sequences);
  auto const own = [&](Index s) -> auto& { return apart[sequences - 1 - to_size(s)]; };
  auto const first = [&](Index s) { return own(s).data(); };
  for (std::size_t i = 0; i < run.states.size(); ++i) own(static_cast<Index>(i / each)).push_back(run.states[i]);
  call.states = {first, static_cast<Index>(sequences), given.heads()};
  require_empty(Run::Memory::check(call));
  Run::Memory::forward(call, Backwards{3});
  for (std::size_t i = 0; i < run.states.size(); ++i) run.states[i] = own(static_cast<Index>(i / each))[i % each];
  check_bits(run, forwarded(given));
  call.states = {first, static_cast<Index>(sequences), given.heads() + 1};
  check_that(!Run::Memory::check(call).empty(), "too many states are refused");
}

/// Packed sequences have the bits of one call for each.
template <class Run> void check_packed(Run const& given) {
  Run alone = given;
  for (std::size_t s = 0; s + 1 < given.offsets().size(); ++s)
    Run::Memory::forward(alone.call(std::span(given.offsets()).subspan(s, 2), static_cast<Index>(s)));
  check_bits(alone, forwarded(given));
}

/// Tokens outside of [begin, end) are neither read nor written. `poison(run, t)` makes an input of token t NaN.
template <class Run, class F> void check_outside(Run run, Index begin, Index end, F&& poison) {
  Index const tokens = run.offsets().back(), numbers = static_cast<Index>(run.y.size()) / tokens;
  for (Index t = 0; t < tokens; ++t)
    if (t < begin || t >= end) poison(run, t);
  std::vector<Index> const inside{begin, end};
  Run::Memory::forward(run.call(inside, 0));
  check_each(tokens * numbers, "an output is written if its token is in the sequence",
             [&](Index i) { return (run.y[to_size(i)] != -77) == (i / numbers >= begin && i / numbers < end); });
  check_each(tokens * numbers, "no output is NaN", [&](Index i) { return std::isfinite(run.y[to_size(i)]); });
}

/// The same bits whatever the executor.
template <class Run> void check_executors(Run const& given) {
  Run const serial = forwarded(given);
  for (Index const concurrency : {2, 3, 8, 64}) {
    Note const note("concurrency", concurrency);
    check_bits(forwarded(given, Backwards{concurrency}), serial);
  }
#if defined(_OPENMP)
  check_bits(forwarded(given, Eager(OpenMp(4))), serial);
#endif
}

/// The padding of a state stays zero, and bands around the output stay as they are.
template <class Run> void check_bands(Run run) {
  std::vector<typename Run::T> banded(run.y.size() + 64, -77);
  auto call = run.call();
  call.y = run.sink(banded.data() + 32);
  Run::Memory::forward(call);
  check_each(32, "the band before the output", [&](Index i) { return banded[to_size(i)] == -77; });
  check_each(32, "the band after the output", [&](Index i) { return banded[banded.size() - 1 - to_size(i)] == -77; });
  for (auto const& state : run.states) {
    std::vector<double> const padding = Run::padding(state);
    check_each(static_cast<Index>(padding.size()), "padding is 0", [&](Index i) { return padding[to_size(i)] == 0; });
  }
}

/// The tape keeps the states before every so many tokens, and changes no result.
template <class Run> void check_tape(Run const& given) {
  using M = typename Run::Memory;
  Run const plain = forwarded(given);
  for (Index const every : {1, 5, 8, 100}) {
    Note const note("every", every);
    Run run = given;
    auto call = run.call();
    std::vector<typename Run::State> kept(M::tape_size(call.x, call.offsets, every), given.states.front());
    call.tape = {.every = every, .states = kept};
    require_empty(M::check(call));
    M::forward(call, Backwards{3});
    check_agree(run, plain);
    std::size_t at = 0;
    for (std::size_t s = 0; s + 1 < given.offsets().size(); ++s)
      for (Index t = given.offsets()[s]; t < given.offsets()[s + 1]; t += every) {
        Run until = given;  // the same sequence up to there
        std::vector<Index> const part{given.offsets()[s], t};
        auto shorter = until.call(part, static_cast<Index>(s));
        M::forward(shorter);
        for (auto const& state : std::span(shorter.states.of(0, given.heads()), shorter.states.size()))
          check_state<Run>(kept[at++], state);
      }
    check_that(at == kept.size(), "all kept states are told");
  }
}

/// A call of the last sequence of a run from token `first` to `last`, counted from its begin.
template <class Run> auto last_sequence(Run& run, std::vector<Index>& range, Index first, Index last) {
  Index const sequence = static_cast<Index>(run.offsets().size()) - 2, begin = run.offsets()[to_size(sequence)];
  range = {begin + first, begin + last};
  return run.call(range, sequence);
}

/// Drafts of which the last is cut back after some accepted tokens, and run again from the kept state before: the bits of the
/// accepted tokens alone, while the other drafts stay.
template <class Run> void check_draft(Run const& given, Index every, Index accepted) {
  using M = typename Run::Memory;
  Note const note_every("every", every), note_accepted("accepted", accepted);
  std::vector<Index> const& offsets = given.offsets();
  std::size_t const last = offsets.size() - 2;
  Index const tokens = offsets[last + 1] - offsets[last];
  Run drafts = given, alone = given;
  auto call = drafts.call();
  std::vector<typename Run::State> kept(M::tape_size(call.x, offsets, every), given.states.front());
  call.tape = {.every = every, .states = kept};
  M::forward(call);
  auto const after = drafts.states;
  for (std::size_t s = 0; s < last; ++s) {
    Index const length = offsets[s + 1] - offsets[s];
    check_that(rewind(call, static_cast<Index>(s), length) == length, "a draft of which nothing is rejected");
  }
  check_that(drafts.states == after, "nothing is rejected, nothing changes");
  Index const at = rewind(call, static_cast<Index>(last), accepted);
  check_that(at == (accepted == tokens ? tokens : accepted / every * every), "the kept token that rewind goes back to");
  std::size_t const others = last * to_size(given.heads());
  check_each(static_cast<Index>(others), "the states of other drafts stay",
             [&](Index i) { return drafts.states[to_size(i)] == after[to_size(i)]; });

  std::vector<Index> range;
  M::forward(last_sequence(drafts, range, at, accepted));
  auto shorter = last_sequence(alone, range, 0, accepted);
  std::vector<typename Run::State> unused(M::tape_size(shorter.x, range, every), given.states.front());
  shorter.tape = {.every = every, .states = unused};  // so that both take the same tokens together
  M::forward(shorter);
  check_each(given.heads(), "the bits of the accepted tokens alone",
             [&](Index h) { return drafts.states[others + to_size(h)] == alone.states[others + to_size(h)]; });
}

/// Token after token of a run with one sequence.
template <class Run> void decode(Run& run, Index begin, Index end) {
  for (Index t = begin; t < end; ++t) {
    std::vector<Index> const one{t, t + 1};
    Run::Memory::forward(run.call(one, 0));
  }
}

/// Rewound tokens were never run: `given` has one sequence of 20 tokens.
template <class Run> void check_history(Run const& given, Index capacity, Index back) {
  Note const note_capacity("capacity", capacity), note_back("back", back);
  Run run = given, never = given;
  History<typename Run::State> history(run.states, capacity);
  check_that(history.capacity() == capacity && history.size() == 0, "a new history is empty");
  for (Index t = 0; t < 11; ++t) {
    history.record(run.states);
    decode(run, t, t + 1);
    check_that(history.size() == std::min(t + 1, capacity), "a token is kept");
  }
  check_that(history.rewind(run.states, back), "it goes back");
  check_that(history.size() == capacity - back, "what was gone back over is not kept");
  decode(never, 0, 11 - back);
  check_that(run.states == never.states, "the state before the rewound tokens");
  history.record(run.states);  // another way from here, and back over the fork
  decode(run, 15, 16);
  Index const more = history.size();
  check_that(history.rewind(run.states, more), "it goes back over the fork");
  Run before = given;
  decode(before, 0, 11 - back + 1 - more);
  check_that(run.states == before.states, "the state before the fork");
  check_that(history.size() == 0, "all is gone back over");
}

}  // namespace aviary::test
