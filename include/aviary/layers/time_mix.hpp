#pragma once
/// TimeMix<Memory>: the layer around a recurrent memory. Each RWKV generation has its specialisation, in a header of
/// its own (time_mix7.hpp ...); this one has what they share.
///
///   TimeMix<Wkv7<float, 64>>        heads of 64, known at compile time
///   TimeMix<Wkv7<float, dynamic>>   the head size is read from the weights
#include <vector>

#include "aviary/core/aligned.hpp"
#include "aviary/core/sequence.hpp"
#include "aviary/core/view.hpp"

namespace aviary {

/// Every specialisation has: T, State, Weights; channels(), inner_channels(), empty_state(), scratch_size(); the call
/// operator for any number of tokens; and shares_values, whether layers share the values of the first one (v_first).
template <class Memory> class TimeMix;

/// What a time mix with a matrix memory remembers, a value.
template <class Memory> struct TimeMixState {
  AlignedVector<typename Memory::T> x;    ///< (C) the input of the token before
  std::vector<typename Memory::State> s;  ///< (H) the memory of each head
  friend bool operator==(TimeMixState const&, TimeMixState const&) = default;

  /// The empty context.
  static TimeMixState empty(Index channels, Index heads, Index keys, Index values) {
    TimeMixState state{AlignedVector<typename Memory::T>(to_size(channels)), {}};
    if constexpr (Memory::keys == dynamic || Memory::values == dynamic)
      state.s.assign(to_size(heads), typename Memory::State{keys, values});
    else
      state.s.assign(to_size(heads), typename Memory::State{});
    return state;
  }
};

namespace detail {
/// Rows of (heads, size) numbers as a kernel takes them.
template <Index N, class T> Source<N> source_of(MatView<T> x, Index heads) noexcept {
  Index const size = x.columns() / heads;
  return {static_cast<T const*>(x.data()), x.rows(), heads, size, x.stride(), size};
}
template <Index N, class T> Sink<N> sink_of(MatView<T> x, Index heads) noexcept {
  Index const size = x.columns() / heads;
  return {x.data(), x.rows(), heads, size, x.stride(), size};
}
}  // namespace detail

}  // namespace aviary
