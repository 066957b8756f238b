#pragma once
/// TimeMix<Memory>: the layer around a recurrent memory. Each RWKV generation has a specialisation in a header of its own
/// (time_mix4.hpp ... time_mix7.hpp, time_mix_c2.hpp); this header has what they share.
///
///   TimeMix<Wkv7<float, 64>>             heads of 64 numbers, known at compile time
///   TimeMix<Wkv7<float, dynamic>>        the weights say how large heads are
///   TimeMix<Wkv7<float, 64, 64, bf16>>   states in bf16; MatrixMemory says with what error
///
/// A time mix copies its Weights and never changes. What it remembers of a sequence is a State, a value: the caller keeps
/// one for each sequence. y is what a block adds to x. Several sequences go through together, as Packed (packed.hpp).
///
///   auto state = mix.empty_state();
///   Scratch<float> scratch(64 * mix.scratch_size());
///   mix(x, state, y, scratch);                         x, y: (tokens, C), or one token of C numbers
#include <algorithm>
#include <vector>

#include "aviary/core/aligned.hpp"
#include "aviary/core/sequence.hpp"
#include "aviary/core/view.hpp"
#include "aviary/dense/linear.hpp"
#include "aviary/layers/norm.hpp"
#include "aviary/layers/packed.hpp"
#include "aviary/layers/token_shift.hpp"

namespace AVIARY_NAMESPACE {

/// Every specialisation has: T, State, Weights; channels(), inner_channels(), empty_state(), reset(state), scratch_size();
/// the call operators of SequenceLayer; and shares_values, whether layers share the values of the first one (v_first).
template <class Memory> class TimeMix;

/// What a time mix remembers of a sequence. It is a value.
template <class M> struct TimeMixState {
  using Memory = M;
  AlignedVector<typename Memory::T> x;    ///< (C): the input of the token before
  std::vector<typename Memory::State> s;  ///< (H): the memory of each head; RWKV-4 has one for all channels
  /// Sets all numbers to zero. A layer with a trained first state puts that back in its reset().
  void clear() noexcept {
    std::fill(x.begin(), x.end(), typename Memory::T(0));
    for (auto& memory : s) memory.clear();
  }
  friend bool operator==(TimeMixState const&, TimeMixState const&) = default;
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

/// Takes packed sequences through their memories, each sequence's being `heads` states: y (tokens, heads, values) is what
/// these read.
template <class Memory, class State, class E>
void run_memory(typename Memory::Inputs const& x, Packed<State> const& sequences, Index heads,
                decltype(Memory::ForwardCall::y) y, E& executor) {
  constexpr Index most = 64;  // sequences of a call
  Index offsets[most + 1];
  for (Index s = sequences.first(), count; s < sequences.end(); s += count) {
    count = std::min(most, sequences.end() - s);
    for (Index i = 0; i < count; ++i) offsets[i] = sequences.begin_of(s + i);
    offsets[count] = sequences.end_of(s + count - 1);
    auto const states = [&](Index i) { return sequences.state(s + i).s.data(); };
    Memory::forward({.x = x, .y = y, .states = {states, count, heads}, .offsets = {offsets, to_size(count + 1)}},
                    executor);
  }
}

/// Checks the matrices that all generations have: from c channels to a, and back.
template <class Weights> void expect_projections(ExpectShapes expect, Weights const& w, Index c, Index a) {
  expect("receptance", w.receptance, a, c);
  expect("key", w.key, a, c);
  expect("value", w.value, a, c);
  expect("output", w.output, c, a);
}

/// What time mixes around a matrix memory share: the memory of H heads of N numbers, A = H N, the norm of what it reads,
/// and the output matrix.
template <class Memory> class MatrixTimeMix {
 public:
  using T = typename Memory::T;
  using State = TimeMixState<Memory>;

  Index channels() const noexcept { return output_.out(); }
  Index inner_channels() const noexcept { return output_.in(); }
  Index heads() const noexcept { return heads_; }
  Index head_size() const noexcept { return inner_channels() / heads_; }
  /// The empty context.
  State empty_state() const {
    State state{AlignedVector<T>(to_size(channels())), {}};
    if constexpr (Memory::keys == dynamic)
      state.s.assign(to_size(heads()), typename Memory::State{head_size(), head_size()});
    else
      state.s.assign(to_size(heads()), typename Memory::State{});
    return state;
  }
  /// Puts a state back to the empty context. It does not allocate.
  void reset(State& state) const noexcept { state.clear(); }

 protected:
  template <class Weights>
  MatrixTimeMix(Weights const& w, Index heads) : MatrixTimeMix(w, heads, heads, w.group_norm_eps) {}
  /// For a norm of fewer groups than heads.
  template <class Weights>
  MatrixTimeMix(Weights const& w, Index heads, Index groups, T eps)
      : heads_(heads), output_(w.output, w.format), ln_x_(w.ln_x_weight, w.ln_x_bias, groups, eps) {}

  /// N: the compile-time size, or else what a tensor says.
  static constexpr Index size_or(Index found) noexcept { return Memory::keys == dynamic ? found : Memory::keys; }

  template <class Weights> static void expect_shapes(ExpectShapes expect, Weights const& w, Index c, Index a) {
    expect_projections(expect, w, c, a);
    expect("ln_x_weight", w.ln_x_weight, a);
    expect("ln_x_bias", w.ln_x_bias, a);
  }

  Source<Memory::keys> source(MatView<T> x) const noexcept { return source_of<Memory::keys>(x, heads_); }

  /// Computes y (tokens, A), what the memories read, and moves the states of the heads on.
  template <class E>
  void read_memory(typename Memory::Inputs const& x, Packed<State> const& sequences, MatView<T> y, E& executor) const {
    run_memory<Memory>(x, sequences, heads_, sink_of<Memory::keys>(y, heads_), executor);
  }
  void normalize(MatView<T> read) const noexcept { ln_x_(read, read); }

  /// Computes y = W_o read.
  template <class E> void finish(MatView<T> read, MatView<T> y, E& executor) const { output_(read, y, executor); }

 private:
  Index heads_;
  Linear<T> output_;
  GroupNorm<T> ln_x_;
};
}  // namespace detail

}  // namespace AVIARY_NAMESPACE
