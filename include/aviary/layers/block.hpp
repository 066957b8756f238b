#pragma once
/// A residual block, the same in every RWKV generation:
///
///   x += TimeMix(LayerNorm1(x))        x += ChannelMix(LayerNorm2(x))
#include <string>
#include <utility>

#include "aviary/core/error.hpp"
#include "aviary/layers/channel_mix.hpp"
#include "aviary/layers/norm.hpp"
#include "aviary/layers/sequence_layer.hpp"

namespace AVIARY_NAMESPACE {

/// Time is a TimeMix of some generation, or Gold.
template <class Time> class Block {
 public:
  using TimeMix = Time;
  using T = typename Time::T;

  /// What the block remembers of a sequence. It is a value.
  struct State {
    typename Time::State time_mix;
    typename ChannelMix<T>::State channel_mix;
    friend bool operator==(State const&, State const&) = default;
  };

  Block(LayerNorm<T> ln1, Time time_mix, LayerNorm<T> ln2, ChannelMix<T> channel_mix)
      : ln1_(std::move(ln1)),
        ln2_(std::move(ln2)),
        time_mix_(std::move(time_mix)),
        channel_mix_(std::move(channel_mix)) {
    Index const c = channels();
    if (ln1_.channels() != c || ln2_.channels() != c || channel_mix_.channels() != c)
      detail::refuse("Block: ln1, time mix, ln2, channel mix have " + std::to_string(ln1_.channels()) + ", " +
                     std::to_string(c) + ", " + std::to_string(ln2_.channels()) + ", " +
                     std::to_string(channel_mix_.channels()) + " channels, expected one number");
  }

  Index channels() const noexcept { return time_mix_.channels(); }
  Time const& time_mix() const noexcept { return time_mix_; }
  /// The state before the first token: the empty context, or a trained one.
  State empty_state() const { return {time_mix_.empty_state(), channel_mix_.empty_state()}; }
  /// Puts a state back to the empty context. It does not allocate.
  void reset(State& state) const noexcept {
    time_mix_.reset(state.time_mix);
    channel_mix_.reset(state.channel_mix);
  }
  /// The numbers of scratch that a token needs.
  Index scratch_size() const noexcept {
    return 2 * padded<T>(channels()) + std::max(time_mix_.scratch_size(), channel_mix_.scratch_size());
  }

  /// Takes any number of tokens, of one sequence or of several, in place.
  /// @param x  (tokens, C)
  /// @param state  the state before the first token, which becomes that after the last; or Packed sequences, a state for
  /// each. A sequence has the same bits alone and among others, if the scratch holds tokens_of_whole_groups at least
  /// @throws std::invalid_argument for a scratch of less than a token, and what the executor throws
  template <class S, Executor E = Serial>
  void operator()(MatView<T> x, S&& state, Scratch<T>& scratch, E&& executor = {}) const {
    run(x, detail::packed(state, x.rows()), scratch, executor);
  }
  /// Does the same where the time mix shares something with other layers.
  /// @param shared  v_first (tokens, A) in RWKV-7, a GoldContext in GoldFinch
  template <class S, detail::SharedRows Shared, Executor E = Serial>
  void operator()(MatView<T> x, S&& state, Scratch<T>& scratch, Shared const& shared, E&& executor = {}) const {
    run(x, detail::packed(state, x.rows()), scratch, executor, shared);
  }

 private:
  template <class E, class... Shared>
  void run(MatView<T> x, Packed<State> const& sequences, Scratch<T>& scratch, E& executor,
           Shared const&... shared) const {
    AVIARY_ASSERT(x.rows() == sequences.rows());
    auto const time_state = [&](Index s) { return &sequences.state(s).time_mix; };
    auto const channel_state = [&](Index s) { return &sequences.state(s).channel_mix; };
    sequences.for_parts(scratch.tokens(scratch_size()), [&](Index first, Packed<State> const& part) {
      typename Scratch<T>::Frame const frame(scratch);
      Index const count = part.rows();
      MatView<T> const rows = x.rows(first, count);
      MatView<T> const normal = scratch.rows(count, channels()), increment = scratch.rows(count, channels());
      auto const add = [](auto const& e, auto const& d) { return e + d; };
      ln1_(rows, normal);
      time_mix_(normal, part.template with_states<typename Time::State>(time_state), increment, scratch,
                shared.rows(first, count)..., executor);
      detail::transform_rows(rows, add, rows, increment);
      ln2_(rows, normal);
      channel_mix_(normal, part.template with_states<typename ChannelMix<T>::State>(channel_state), increment, scratch,
                   executor);
      detail::transform_rows(rows, add, rows, increment);
    });
  }

  LayerNorm<T> ln1_, ln2_;
  Time time_mix_;
  ChannelMix<T> channel_mix_;
};

}  // namespace AVIARY_NAMESPACE
