#pragma once
/// How layers with a state are called.
#include "aviary/core/executor.hpp"
#include "aviary/core/scratch.hpp"

namespace aviary::detail {

/// The forms in which a layer takes tokens, over its member `stretch` for as many as the scratch allows at once.
template <class Layer, class T> class SequenceLayer {
 public:
  /// Any number of tokens of one sequence.
  /// @param x  input (tokens, C)     @param state  before the first token; becomes that after the last
  /// @param y  output (tokens, C); must not overlap x     @param scratch  for at least one token
  /// @param shared  what the layer shares with other layers, a row per token: v_first in RWKV-7, else nothing
  /// @throws std::invalid_argument for a scratch that is too small; what the executor throws
  template <class State, Executor E = Serial, class... Shared>
  void operator()(MatView<T const> x, State& state, MatView<T> y, Scratch<T>& scratch, E&& executor = {},
                  Shared const&... shared) const {
    Layer const& layer = static_cast<Layer const&>(*this);
    AVIARY_ASSERT(x.columns() == layer.channels() && y.columns() == layer.channels() && x.rows() == y.rows());
    scratch.for_stretches(x.rows(), layer.scratch_size(), [&](Index first, Index count) {
      layer.stretch(x.rows(first, count), state, y.rows(first, count), scratch, executor, shared.rows(first, count)...);
    });
  }

  /// One token: x, y (C), and rows of what is shared.
  template <class State, Executor E = Serial, class... Shared>
  void operator()(VecView<T const> x, State& state, VecView<T> y, Scratch<T>& scratch, E&& executor = {},
                  Shared const&... shared) const {
    (*this)(MatView<T const>(x.data(), 1, x.size()), state, MatView<T>(y.data(), 1, y.size()), scratch, executor,
            MatView<T>(shared.data(), 1, shared.size())...);
  }

 protected:
  SequenceLayer() = default;
};

}  // namespace aviary::detail
