#pragma once
/// States kept on the way, and going back to them: for speculative decoding, for an editor's undo, for a search, for
/// gradients. All this works with every memory, through its State and its ForwardCall. There are three ways to go back:
///
/// * A draft of n tokens is verified by one `forward` with a tape of every = 1, which keeps the state before each of
///   them; then call rewind(call, sequence, accepted). This keeps n states a head.
/// * Tokens come one at a time. A History records the state before each, and goes back by any number of the last n.
///   This keeps n states a head, and copies the state for every token, which costs about as much as the token's step.
/// * Memory is dear. A tape of every = m keeps one state every m tokens. rewind goes back to the one before the token
///   that is wanted, and the inputs of the up to m - 1 tokens from there on are run again.
///
/// A state of float takes 4 K padded(V) bytes, 16 KiB for a head of 64 x 64. All 144 heads of a model of 12 layers with 12
/// heads take 2.25 MiB for every token kept; their inputs, to be run again, take 12 layers x 768 channels x 6 fields x
/// 4 bytes = 216 KiB.
#include <algorithm>
#include <span>
#include <vector>

#include "aviary/core/packing.hpp"

namespace AVIARY_NAMESPACE {

/// What `forward` keeps: the states before tokens 0, every, 2 every ... of each sequence. The memory's
/// tape_size(x, offsets, every) says how many states that is, (kept token, head) with the sequences one after another. With
/// no states nothing is kept. A memory may have more to keep of a token.
template <class State> struct Tape {
  Index every = 16;
  std::span<State> states = {};
};

namespace detail {

/// Takes a sequence in stretches of at most `most` tokens, which also end where the tape keeps a state. f(t, n, kept) runs
/// tokens t ... t + n - 1; before them it keeps the states of all heads as entry `kept` of the tape, unless that is -1.
template <class Tape, class F>
void for_stretches(Packing const& packing, Index sequence, Tape const& tape, Index most, F&& f) {
  Index const begin = packing.begin(sequence), end = packing.end(sequence);
  bool const keeps = !tape.states.empty();
  Index const kept = keeps ? packing.kept_before(sequence, tape.every) : 0;
  for (Index t = begin, n = 0; t < end; t += n) {
    Index const since = keeps ? (t - begin) % tape.every : 0;
    n = std::min({end - t, most, keeps ? tape.every - since : most});
    f(t, n, keeps && since == 0 ? kept + (t - begin) / tape.every : Index{-1});
  }
}

}  // namespace detail

/// After M::forward(call) with a tape: puts the states of a sequence back to where they were when it had seen its first
/// `tokens` tokens or, where the tape did not keep these, the most below. Returns how many they have seen now: with
/// every = 1 always `tokens`. The states have the bits of a call that ended there and had the same tape; and so they have
/// once the tokens between are run again, in a call whose offsets begin at the returned token.
/// @param tokens  0 to the length of the sequence, which leaves the states as they are
template <class Call> Index rewind(Call const& call, Index sequence, Index tokens) noexcept {
  detail::Packing const packing{call.offsets, call.tokens()};
  AVIARY_ASSERT(0 <= sequence && sequence < packing.sequences());
  Index const length = packing.end(sequence) - packing.begin(sequence), every = call.tape.every;
  AVIARY_ASSERT(0 <= tokens && tokens <= length);
  if (tokens == length) return length;
  AVIARY_ASSERT(!call.tape.states.empty());
  std::size_t const heads = call.states.size() / to_size(packing.sequences());
  std::size_t const kept = to_size(packing.kept_before(sequence, every) + tokens / every) * heads;
  std::copy_n(call.tape.states.begin() + static_cast<Index>(kept), heads,
              call.states.of(sequence, static_cast<Index>(heads)));
  return tokens / every * every;
}

/// The states before each of the last tokens, of a model that is run token by token:
///
///     History<Memory::State> history(states, 8);
///     history.record(states);              // before every token
///     ... step or forward, of one token ...
///     if (!history.rewind(states, 3)) ...  // the last three tokens never were
///
/// All states of a model may go through one History. It allocates in its constructor alone.
template <class State> class History {
 public:
  /// Room for the states before `tokens` tokens. Of `like` only the number and the sizes matter.
  History(std::span<State const> like, Index tokens) : states_per_token_(like.size()), capacity_(tokens) {
    AVIARY_ASSERT(tokens >= 0);
    kept_.reserve(like.size() * to_size(tokens));
    for (Index t = 0; t < tokens; ++t) kept_.insert(kept_.end(), like.begin(), like.end());
  }

  /// How many tokens can be kept.
  Index capacity() const noexcept { return capacity_; }
  /// How many tokens one can go back now.
  Index size() const noexcept { return size_; }
  void clear() noexcept { size_ = 0; }

  /// Keeps the states before the next token; those before the oldest one are forgotten when there is no more room.
  /// `states`: as many as at construction, of the same sizes.
  void record(std::span<State const> states) noexcept {
    AVIARY_ASSERT(states.size() == states_per_token_);
    if (capacity_ == 0) return;
    std::ranges::copy(states, slot(next_).begin());
    next_ = next_ + 1 == capacity_ ? 0 : next_ + 1;
    size_ = std::min(size_ + 1, capacity_);
  }

  /// Makes the last tokens undone: the states become what they were before them, and their records are forgotten.
  /// False, with nothing changed, if that is more than size().
  [[nodiscard]] bool rewind(std::span<State> states, Index tokens) noexcept {
    AVIARY_ASSERT(tokens >= 0 && states.size() == states_per_token_);
    if (tokens > size_) return false;
    if (tokens == 0) return true;
    next_ = (next_ + capacity_ - tokens) % capacity_;
    size_ -= tokens;
    std::ranges::copy(slot(next_), states.begin());
    return true;
  }

 private:
  std::span<State> slot(Index n) noexcept {
    return std::span(kept_).subspan(to_size(n) * states_per_token_, states_per_token_);
  }

  std::vector<State> kept_;  // capacity x states of a token, a ring
  std::size_t states_per_token_;
  Index capacity_, size_ = 0, next_ = 0;
};

}  // namespace AVIARY_NAMESPACE
