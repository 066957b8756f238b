#pragma once
/// A residual block, the same in every RWKV generation:
///
///   x += TimeMix(LayerNorm1(x))        x += ChannelMix(LayerNorm2(x))
#include <string>
#include <utility>

#include "aviary/core/error.hpp"
#include "aviary/layers/channel_mix.hpp"
#include "aviary/layers/norm.hpp"
#include "aviary/layers/parameters.hpp"
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

  /// The gradient of a state.
  struct StateGradient {
    typename Time::StateGradient time_mix;
    typename ChannelMix<T>::StateGradient channel_mix;
  };

  /// The names of the weights.
  template <class As> struct Parameters {
    typename As::Vector ln1_weight, ln1_bias;  ///< (C) each
    typename Time::template Parameters<As> time_mix;
    typename As::Vector ln2_weight, ln2_bias;  ///< (C) each
    typename ChannelMix<T>::template Parameters<As> channel_mix;
  };
  using Weights = Parameters<GivenWeights<T>>;
  using Gradients = Parameters<WeightGradients<T>>;

  /// Copies the weights. The norms have the eps of LayerNorm.
  /// @throws std::invalid_argument if shapes do not fit together
  explicit Block(Weights const& w)
      : Block(LayerNorm<T>(w.ln1_weight, w.ln1_bias), Time(w.time_mix), LayerNorm<T>(w.ln2_weight, w.ln2_bias),
              ChannelMix<T>(w.channel_mix)) {}
  /// @throws std::invalid_argument if they have different numbers of channels
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
  /// The gradient of a state that has no part in the loss.
  StateGradient empty_state_gradient() const {
    return {time_mix_.empty_state_gradient(), channel_mix_.empty_state_gradient()};
  }
  /// Puts a state back to that of empty_state(). It does not allocate.
  void reset(State& state) const noexcept {
    time_mix_.reset(state.time_mix);
    channel_mix_.reset(state.channel_mix);
  }
  /// Of reset(): adds to the gradients of the weights that the state before the first token is made of, if there are any,
  /// the gradient of such a state. `backward` does not.
  void reset_backward(StateGradient const& dstate, Gradients const& d) const noexcept {
    if constexpr (requires { time_mix_.reset_backward(dstate.time_mix, d.time_mix); })
      time_mix_.reset_backward(dstate.time_mix, d.time_mix);
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

  /// All tokens of packed sequences at once, as they went forward.
  struct BackwardCall {
    /// What the layers were made of. If they keep them in a format that rounds, give the rounded ones.
    Weights const& weights;
    MatView<T const> x;             ///< (tokens, C), before the block
    Packed<State const> states;     ///< before the tokens
    MatView<T> d;                   ///< (tokens, C): what reached the block's outputs; becomes what reaches x
    States<StateGradient> dstates;  ///< of the states after the tokens; become those of `states`
    Gradients const& dweights;      ///< added to
  };

  /// The numbers of scratch that `backward` needs for so many tokens in so many sequences, with room for as many tasks of the
  /// memory's backward at once as `concurrency` says.
  Index backward_scratch_size(Index tokens, Index sequences = 1, Index concurrency = 1) const noexcept {
    Index const rows = tokens * padded<T>(channels());
    Index const between = 4 * rows + std::max(channel_mix_.backward_scratch_size(tokens), ln2_.backward_scratch_size());
    return 2 * rows + std::max(time_mix_.backward_scratch_size(tokens, sequences, concurrency, between),
                               ln1_.backward_scratch_size());
  }

  /// The gradients of the block's input, states and weights, from nothing but the input and the states before: both mixes go
  /// forward once more. Sequences that are cut into calls hand dstates from one to the one for the tokens before.
  ///   Cost:  three times that of forward, and what the memory's backward costs more.
  ///   The bits depend neither on the executor nor on what is wanted. It allocates nothing, and throws what the executor
  ///   throws.
  /// @param tape  of the time mix's make_tape() for so many tokens and sequences; a GoldTape for Gold
  /// @param scratch  has backward_scratch_size(...) numbers
  template <class Tape, Executor E = Serial>
  void backward(BackwardCall const& call, Tape& tape, Scratch<T>& scratch, E&& executor = {}) const {
    walk_back(call, tape, scratch, executor);
  }
  /// Does the same where the time mix shares v_first with other layers; v_first, dv_first: see its backward.
  template <class Tape, Executor E = Serial>
  void backward(BackwardCall const& call, Tape& tape, Scratch<T>& scratch, MatView<T> v_first, MatView<T> dv_first,
                E&& executor = {}) const {
    walk_back(call, tape, scratch, executor, v_first, dv_first);
  }

 private:
  template <class Tape, class E, class... Shared>
  void walk_back(BackwardCall const& call, Tape& tape, Scratch<T>& scratch, E& executor,
                 Shared const&... shared) const {
    AVIARY_ASSERT(call.x.columns() == channels() && call.d.columns() == channels());
    AVIARY_ASSERT(call.x.rows() == call.states.rows() && call.d.rows() == call.x.rows());
    typename Scratch<T>::Frame const frame(scratch);
    auto const lend = [&] { return scratch.rows(call.x.rows(), channels()); };
    auto const lend_zeros = [&] {
      MatView<T> const rows = lend();
      detail::fill_rows(rows, T(0));
      return rows;
    };
    auto const time_state = [&](Index s) { return &call.states.state(s).time_mix; };
    auto const channel_state = [&](Index s) { return &call.states.state(s).channel_mix; };
    auto const dtime_state = [&](Index s) { return &call.dstates.of(s, 1)->time_mix; };
    auto const dchannel_state = [&](Index s) { return &call.dstates.of(s, 1)->channel_mix; };
    Index const sequences = static_cast<Index>(call.dstates.size());

    auto const through_channel_mix = [&](MatView<T const> increment) {
      typename Scratch<T>::Frame const inner(scratch);
      MatView<T> const x = lend(), normal = lend(), dnormal = lend_zeros();
      detail::transform_rows(
          x, [](auto const& e, auto const& d) { return e + d; }, call.x, increment);
      ln2_(x, normal);
      channel_mix_.backward(
          {.weights = call.weights.channel_mix,
           .x = normal,
           .states = call.states.template with_states<typename ChannelMix<T>::State const>(channel_state),
           .dy = call.d,
           .dx = dnormal,
           .dstates = {dchannel_state, sequences, 1},
           .dweights = call.dweights.channel_mix},
          scratch, executor);
      ln2_.backward(x, dnormal, dnormal, call.dweights.ln2_weight, call.dweights.ln2_bias, scratch);
      detail::add_rows<T>(call.d, dnormal);
    };

    MatView<T> const normal = lend(), dnormal = lend_zeros();
    ln1_(call.x, normal);
    time_mix_.backward({.weights = call.weights.time_mix,
                        .x = normal,
                        .states = call.states.template with_states<typename Time::State const>(time_state),
                        .dy = call.d,
                        .dx = dnormal,
                        .dstates = {dtime_state, sequences, 1},
                        .dweights = call.dweights.time_mix},
                       tape, scratch, shared..., executor, through_channel_mix);
    ln1_.backward(call.x, dnormal, dnormal, call.dweights.ln1_weight, call.dweights.ln1_bias, scratch);
    detail::add_rows<T>(call.d, dnormal);
  }

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
