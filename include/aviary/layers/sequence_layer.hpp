#pragma once
/// How layers with a state are called: with input, state, output, scratch, what the layer shares with others if anything,
/// and an executor if one is wanted.
#include "aviary/core/executor.hpp"
#include "aviary/core/scratch.hpp"
#include "aviary/layers/packed.hpp"

namespace AVIARY_NAMESPACE::detail {

/// What a layer shares with others: a matrix with a row for each token (v_first in RWKV-7), or a GoldContext. An executor
/// is neither.
template <class Shared>
concept SharedRows = !Executor<Shared>;

/// The form for many tokens of what is shared: a row of numbers becomes a matrix with one row.
template <class T, class Shared> auto as_rows(Shared const& shared) noexcept {
  if constexpr (requires { shared.rows(Index{}, Index{}); })
    return shared;
  else
    return MatView<T>(shared.data(), 1, shared.size());
}

/// What `backward` of a layer with a state takes: all tokens of packed sequences at once, as they went forward.
template <class Layer> struct LayerBackwardCall {
  using T = typename Layer::T;
  /// What the layer was made of. If it keeps them in a format that rounds, give the rounded ones.
  typename Layer::Weights const& weights;
  MatView<T const> x;                             ///< (tokens, C)
  Packed<typename Layer::State const> states;     ///< before the tokens
  MatView<T const> dy;                            ///< (tokens, C)
  MatView<T> dx;                                  ///< (tokens, C), added to; overlaps none of these
  States<typename Layer::StateGradient> dstates;  ///< of the states after the tokens; become those of `states`
  typename Layer::Gradients const& dweights;      ///< added to
};

/// What `backward` of a time mix does between its way forward and its way back, if nobody else has anything to do there.
struct NothingBetween {};

/// Calls between(y) with the outputs (tokens, C), which finish(y) computes. If there is something to do, y is a matrix of the
/// scratch, beside what `between` takes of it.
template <class T, class Finish, class Between>
void go_between(Scratch<T>& scratch, Index tokens, Index channels, [[maybe_unused]] Finish const& finish,
                [[maybe_unused]] Between&& between) {
  if constexpr (!std::is_same_v<std::remove_cvref_t<Between>, NothingBetween>) {
    typename Scratch<T>::Frame const frame(scratch);
    MatView<T> const y = scratch.rows(tokens, channels);
    finish(y);
    between(y);
  }
}

/// In the place of a scratch's rows, to know how many numbers a layer takes: its rows have no memory.
template <class T> struct CountedRows {
  Index tokens, numbers = 0;
  MatView<T> operator()(Index columns) noexcept {
    numbers += tokens * padded<T>(columns);
    return {nullptr, tokens, columns};
  }
};

/// The call operators of a layer. They hand its member `stretch` as many tokens at once as the scratch allows.
template <class Layer, class T> class SequenceLayer {
 public:
  /// Takes any number of tokens, of one sequence or of several.
  /// @param x  input (tokens, C)
  /// @param state  the state before the first token, which becomes that after the last; or Packed sequences, a state for
  /// each. A sequence has the same bits alone and among others, if the scratch holds tokens_of_whole_groups at least
  /// @param y  output (tokens, C); must not overlap x     @param scratch  for at least one token
  /// @throws std::invalid_argument for a scratch of less than a token, and what the executor throws
  template <class State, Executor E = Serial>
  void operator()(MatView<T const> x, State&& state, MatView<T> y, Scratch<T>& scratch, E&& executor = {}) const {
    run(x, packed(state, x.rows()), y, scratch, executor);
  }
  /// Does the same for a layer that shares something with others.
  /// @param shared  v_first (tokens, A) in RWKV-7, a GoldContext in GoldFinch
  template <class State, SharedRows Shared, Executor E = Serial>
  void operator()(MatView<T const> x, State&& state, MatView<T> y, Scratch<T>& scratch, Shared const& shared,
                  E&& executor = {}) const {
    run(x, packed(state, x.rows()), y, scratch, executor, shared);
  }

  /// Takes one token: x, y (C), and a row of what is shared.
  template <class State, Executor E = Serial>
  void operator()(VecView<T const> x, State& state, VecView<T> y, Scratch<T>& scratch, E&& executor = {}) const {
    run(as_rows<T const>(x), packed(state, 1), as_rows<T>(y), scratch, executor);
  }
  template <class State, SharedRows Shared, Executor E = Serial>
  void operator()(VecView<T const> x, State& state, VecView<T> y, Scratch<T>& scratch, Shared const& shared,
                  E&& executor = {}) const {
    run(as_rows<T const>(x), packed(state, 1), as_rows<T>(y), scratch, executor, as_rows<T>(shared));
  }

 protected:
  SequenceLayer() = default;

 private:
  template <class State, class E, class... Shared>
  void run(MatView<T const> x, Packed<State> const& sequences, MatView<T> y, Scratch<T>& scratch, E& executor,
           Shared const&... shared) const {
    Layer const& layer = static_cast<Layer const&>(*this);
    AVIARY_ASSERT(x.columns() == layer.channels() && y.columns() == layer.channels() && x.rows() == y.rows());
    AVIARY_ASSERT(x.rows() == sequences.rows());
    sequences.for_parts(scratch.tokens(layer.scratch_size()), [&](Index first, Packed<State> const& part) {
      typename Scratch<T>::Frame const frame(scratch);
      Index const count = part.rows();
      layer.stretch(x.rows(first, count), part, y.rows(first, count), scratch, shared.rows(first, count)..., executor);
    });
  }
};

}  // namespace AVIARY_NAMESPACE::detail
