#pragma once
/// Packed sequences as layers take them: the rows of a matrix are their tokens, one sequence after another, and each has a
/// state. Contexts of many users, some of which read a prompt while others wait for a word, go through a layer together.
#include <algorithm>
#include <span>
#include <type_traits>
#include <utility>

#include "aviary/core/packing.hpp"
#include "aviary/core/states.hpp"
#include "aviary/core/view.hpp"

namespace AVIARY_NAMESPACE {

/// The sequences of a call, or of some of its rows. It refers to states and offsets.
///
///     Packed<Mix::State> sequences(states, offsets);     states: one for each sequence; offsets: n + 1 rows of x
///     mix(x, sequences, y, scratch);
template <class State> class Packed {
 public:
  /// @param offsets  from 0 to the number of rows, ascending. A sequence may have no row
  Packed(States<State> states, std::span<Index const> offsets) noexcept
      : states_(states), packing_{offsets, offsets.back()}, rows_(offsets.back()), end_(packing_.sequences()) {
    AVIARY_ASSERT(offsets.front() == 0 && std::ranges::is_sorted(offsets));
    AVIARY_ASSERT(states.size() == offsets.size() - 1);
  }
  /// One sequence.
  Packed(State& state, Index rows) noexcept : states_(&state, 1), packing_{{}, rows}, rows_(rows), end_(1) {}

  /// The same sequences with other states: `state_of` is a function of a sequence's number in the call, to which this refers.
  template <class Other, class StateOf> Packed<Other> with_states(StateOf const& state_of) const noexcept {
    return {States<Other>(state_of, packing_.sequences(), 1), packing_, row_, rows_, first_, end_};
  }

  Index rows() const noexcept { return rows_; }
  /// The numbers of the sequences that have these rows are first() ... end() - 1.
  Index first() const noexcept { return first_; }
  Index end() const noexcept { return end_; }
  State& state(Index sequence) const noexcept { return *states_.of(sequence, 1); }
  /// Where a sequence begins and ends among these rows.
  Index begin_of(Index sequence) const noexcept { return std::clamp(packing_.begin(sequence) - row_, Index{0}, rows_); }
  Index end_of(Index sequence) const noexcept { return std::clamp(packing_.end(sequence) - row_, Index{0}, rows_); }
  /// How many rows of the call a sequence has after these.
  Index left_of(Index sequence) const noexcept { return std::max(packing_.end(sequence) - (row_ + rows_), Index{0}); }

  /// Calls f(row, part) for parts of at most `most` rows, in order. A sequence is cut after whole groups, as far as these fit:
  /// then no bit depends on where it is cut.
  template <class F> void for_parts(Index most, F&& f) const {
    Packed part = *this;
    for (Index const last = row_ + rows_; part.row_ < last; part.row_ += part.rows_) {
      part.rows_ = std::min(most, last - part.row_);
      while (packing_.end(part.first_) <= part.row_) ++part.first_;
      for (part.end_ = part.first_ + 1; part.end_ < end_ && packing_.begin(part.end_) < part.row_ + part.rows_;)
        ++part.end_;
      part.end_after_whole_groups(last);
      f(part.row_ - row_, std::as_const(part));
    }
  }

 private:
  template <class> friend class Packed;

  Packed(States<State> states, detail::Packing packing, Index row, Index rows, Index first, Index end) noexcept
      : states_(states), packing_(packing), row_(row), rows_(rows), first_(first), end_(end) {}

  /// Gives back the last rows, before row `last` of the call, if they do not make a whole group of their sequence.
  void end_after_whole_groups(Index last) noexcept {
    Index const begin = packing_.begin(end_ - 1), cut = row_ + rows_;
    if (cut >= std::min(packing_.end(end_ - 1), last)) return;
    Index const whole = cut - (cut - begin) % tokens_of_whole_groups;
    if (whole > row_) rows_ = whole - row_;
  }

  States<State> states_;
  detail::Packing packing_;  // of the call
  Index row_ = 0, rows_;     // these rows of the call
  Index first_ = 0, end_;    // the sequences that have them
};

namespace detail {
template <class T> inline constexpr bool is_packed = false;
template <class State> inline constexpr bool is_packed<Packed<State>> = true;

/// Packed sequences as they are, or one sequence of all rows.
template <class States> auto packed(States& states, Index rows) noexcept {
  if constexpr (is_packed<std::remove_const_t<States>>)
    return states;
  else
    return Packed<States>(states, rows);
}
}  // namespace detail

}  // namespace AVIARY_NAMESPACE
