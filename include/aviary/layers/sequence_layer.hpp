#pragma once
/// How layers with a state are called: input, state, output, scratch, what the layer shares with others, executor. The
/// last two may be left out.
#include "aviary/core/executor.hpp"
#include "aviary/core/scratch.hpp"

namespace aviary::detail {

/// What a layer shares with others: matrices of a row per token (v_first in RWKV-7), or all that a GOLD layer attends to.
template <class Shared>
concept SharedRows = !Executor<Shared>;

/// What is shared of one token, as it is of many: a row of numbers becomes a matrix.
template <class T, class Shared> auto as_rows(Shared const& shared) noexcept {
  if constexpr (requires { shared.rows(Index{}, Index{}); })
    return shared;
  else
    return MatView<T>(shared.data(), 1, shared.size());
}

/// The forms in which a layer takes tokens, over its member `stretch` for as many as the scratch allows at once.
template <class Layer, class T> class SequenceLayer {
 public:
  /// Any number of tokens of one sequence.
  /// @param x  input (tokens, C)     @param state  before the first token; becomes that after the last
  /// @param y  output (tokens, C); must not overlap x     @param scratch  for at least one token
  /// @throws std::invalid_argument for a scratch that is too small; what the executor throws
  template <class State, Executor E = Serial>
  void operator()(MatView<T const> x, State& state, MatView<T> y, Scratch<T>& scratch, E&& executor = {}) const {
    run(x, state, y, scratch, executor);
  }
  /// The same for a layer that shares something with others.
  /// @param shared  v_first (tokens, A) in RWKV-7, a GoldContext in GoldFinch
  template <class State, SharedRows Shared, Executor E = Serial>
  void operator()(MatView<T const> x, State& state, MatView<T> y, Scratch<T>& scratch, Shared const& shared,
                  E&& executor = {}) const {
    run(x, state, y, scratch, executor, shared);
  }

  /// One token: x, y (C), and a row of what is shared.
  template <class State, Executor E = Serial>
  void operator()(VecView<T const> x, State& state, VecView<T> y, Scratch<T>& scratch, E&& executor = {}) const {
    run(as_rows<T const>(x), state, as_rows<T>(y), scratch, executor);
  }
  template <class State, SharedRows Shared, Executor E = Serial>
  void operator()(VecView<T const> x, State& state, VecView<T> y, Scratch<T>& scratch, Shared const& shared,
                  E&& executor = {}) const {
    run(as_rows<T const>(x), state, as_rows<T>(y), scratch, executor, as_rows<T>(shared));
  }

 protected:
  SequenceLayer() = default;

 private:
  template <class State, class E, class... Shared>
  void run(MatView<T const> x, State& state, MatView<T> y, Scratch<T>& scratch, E& executor,
           Shared const&... shared) const {
    Layer const& layer = static_cast<Layer const&>(*this);
    AVIARY_ASSERT(x.columns() == layer.channels() && y.columns() == layer.channels() && x.rows() == y.rows());
    scratch.for_stretches(x.rows(), layer.scratch_size(), [&](Index first, Index count) {
      layer.stretch(x.rows(first, count), state, y.rows(first, count), scratch, shared.rows(first, count)..., executor);
    });
  }
};

}  // namespace aviary::detail
