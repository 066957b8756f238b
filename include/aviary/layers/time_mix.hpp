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
#include "aviary/core/scratch.hpp"
#include "aviary/core/sequence.hpp"
#include "aviary/core/view.hpp"
#include "aviary/dense/gradient.hpp"
#include "aviary/dense/linear.hpp"
#include "aviary/layers/norm.hpp"
#include "aviary/layers/packed.hpp"
#include "aviary/layers/token_shift.hpp"
#include "aviary/matrix/state.hpp"

namespace AVIARY_NAMESPACE {

/// Every specialisation has: T, State, Weights; channels(), inner_channels(), empty_state(), reset(state), scratch_size();
/// the call operators of SequenceLayer; and shares_values, whether layers share the values of the first one (v_first).
///
/// For gradients: Gradients, StateGradient, Tape, BackwardCall; empty_state_gradient(), make_tape(tokens, sequences),
/// backward_scratch_size(tokens, sequences, concurrency); and backward, which takes v_first and dv_first as well if values
/// are shared. All but that of RWKV-4 have a weight first_state, a trained empty context, and reset_backward() for its
/// gradient.
///
///   Mix::Gradients dw;                                   {} is not wanted
///   dw.output = doutput;
///   auto dstate = mix.empty_state_gradient();
///   auto tape = mix.make_tape(tokens);
///   Scratch<float> room(mix.backward_scratch_size(tokens));
///   mix.backward({.weights = w, .x = x, .states = {before, tokens}, .dy = dy, .dx = dx, .dstates = {&dstate, 1},
///                 .dweights = dw}, tape, room);          before: the const state before the tokens
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

/// The gradient of a state: of the two inputs, and of the memories as these define it.
template <class M> struct TimeMixStateGradient {
  AlignedVector<typename M::T> x;            ///< (C)
  std::vector<typename M::StateGradient> s;  ///< as many as the state has memories
};

/// States of memories on the way through the tokens, which `backward` of a time mix needs. TimeMix::make_tape() makes them
/// once, for the largest call; layers of the same sizes may use them in turn.
template <class M> struct TimeMixTape {
  static constexpr Index every = 16;               ///< tokens from one kept state to the next
  std::vector<typename M::State> states;           ///< of all sequences of a call, moved on
  std::vector<typename M::State> kept;             ///< of every 16 tokens begun
  std::vector<typename M::StateGradient> dstates;  ///< of all sequences of a call
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

/// Sequences that one call of a memory takes.
inline constexpr Index most_sequences = 64;

/// f(first, count, offsets) for `count` sequences at a time, the first of which is number `first`.
template <class State, class F> void for_memory_calls(Packed<State> const& sequences, F&& f) {
  Index offsets[most_sequences + 1];
  for (Index s = sequences.first(), count; s < sequences.end(); s += count) {
    count = std::min(most_sequences, sequences.end() - s);
    for (Index i = 0; i < count; ++i) offsets[i] = sequences.begin_of(s + i);
    offsets[count] = sequences.end_of(s + count - 1);
    f(s, count, std::span<Index const>(offsets, to_size(count + 1)));
  }
}

/// Takes packed sequences through their memories, each sequence's being `heads` states: y (tokens, heads, values) is what
/// these read.
template <class Memory, class State, class E>
void run_memory(typename Memory::Inputs const& x, Packed<State> const& sequences, Index heads,
                decltype(Memory::ForwardCall::y) y, E& executor) {
  for_memory_calls(sequences, [&](Index first, Index count, std::span<Index const> offsets) {
    auto const states = [&](Index i) { return sequences.state(first + i).s.data(); };
    Memory::forward({.x = x, .y = y, .states = {states, count, heads}, .offsets = offsets}, executor);
  });
}

/// Packed sequences through matrix memories, of `heads` states each, to and fro.
template <class Memory> struct MemoryPath {
  using T = typename Memory::T;
  using Tape = TimeMixTape<Memory>;

  typename Memory::Inputs const& x;
  Packed<TimeMixState<Memory> const> const& sequences;
  Index heads;
  Tape& tape;
  MatView<T> readings;  // (tokens, heads * V), where the rule erases

  /// y (tokens, heads * V), what the memories read. Their states go on in the tape.
  template <class E> void forward(MatView<T> y, E& executor) const {
    for_calls([&](Index first, Index count, std::span<Index const> offsets, std::span<typename Memory::State> kept) {
      std::span const states = std::span(tape.states).first(to_size(count * heads));
      for (Index i = 0; i < count; ++i)
        std::copy_n(sequences.state(first + i).s.begin(), heads, states.begin() + i * heads);
      Memory::forward({.x = x,
                       .y = sink_of<Memory::values>(y, heads),
                       .states = states,
                       .offsets = offsets,
                       .tape = with_readings(kept)},
                      executor);
    });
  }

  /// dx from dy (tokens, heads * V), after forward(). The gradients of the states after the tokens become those of the
  /// states before. What is left of the scratch is the memory's workspace.
  /// @param after  is called when a part of the sequences is done, of which dx then has what belongs to heads
  template <class Gradient, class E, class After>
  void backward(MatView<T> dy, typename Memory::Gradients const& dx, States<Gradient> const& dstates,
                Scratch<T>& scratch, E& executor, After&& after) const {
    typename Scratch<T>::Frame const frame(scratch);
    MatView<T> const workspace = scratch.rows(1, scratch.left() / padded<T>(1) * padded<T>(1));
    for_calls([&](Index first, Index count, std::span<Index const> offsets, std::span<typename Memory::State> kept) {
      std::span const together = std::span(tape.dstates).first(to_size(count * heads));
      for (Index i = 0; i < count; ++i)
        std::copy_n(dstates.of(first + i, 1)->s.begin(), heads, together.begin() + i * heads);
      Memory::backward({.x = x,
                        .dy = source_of<Memory::values>(dy, heads),
                        .tape = with_readings(kept),
                        .dx = dx,
                        .dstates = together,
                        .workspace = {workspace.data(), to_size(workspace.columns())},
                        .offsets = offsets},
                       executor);
      for (Index i = 0; i < count; ++i)
        std::copy_n(together.begin() + i * heads, heads, dstates.of(first + i, 1)->s.begin());
      after();
    });
  }

  /// The numbers of workspace that backward() needs for inputs of so many tokens in so many sequences.
  static Index workspace_size(typename Memory::Inputs const& inputs, Index tokens, Index sequences, Index heads,
                              Index concurrency) noexcept {
    Index offsets[most_sequences + 1] = {};  // one sequence has all tokens: no interval of a tape is longer
    std::fill(std::begin(offsets) + 1, std::end(offsets), tokens);
    std::span const all(offsets, to_size(std::clamp(sequences, Index{1}, most_sequences) + 1));
    return padded<T>(static_cast<Index>(Memory::backward_workspace(inputs, heads, all, Tape::every, concurrency)));
  }

 private:
  /// f(first, count, offsets, kept) as above, with the part of the tape.
  template <class F> void for_calls(F&& f) const {
    std::span<typename Memory::State> left = tape.kept;
    for_memory_calls(sequences, [&](Index first, Index count, std::span<Index const> offsets) {
      std::size_t const kept = Memory::tape_size(x, offsets, Tape::every);
      f(first, count, offsets, left.first(kept));
      left = left.subspan(kept);
    });
  }
  typename Memory::Tape with_readings(std::span<typename Memory::State> kept) const noexcept {
    typename Memory::Tape kept_on{.every = Tape::every, .states = kept};
    if constexpr (requires { kept_on.readings; }) kept_on.readings = sink_of<Memory::values>(readings, heads);
    return kept_on;
  }
};

/// Checks the matrices that all generations have: from c channels to a, and back.
template <class Weights> void expect_projections(ExpectShapes expect, Weights const& w, Index c, Index a) {
  expect("receptance", w.receptance, a, c);
  expect("key", w.key, a, c);
  expect("value", w.value, a, c);
  expect("output", w.output, c, a);
}

/// What time mixes around a matrix memory share: the memory of H heads of N numbers, A = H N, its state before the first
/// token, the norm of what it reads, and the output matrix.
template <class Memory> class MatrixTimeMix {
 public:
  using T = typename Memory::T;
  using State = TimeMixState<Memory>;
  using StateGradient = TimeMixStateGradient<Memory>;
  using Tape = TimeMixTape<Memory>;

  Index channels() const noexcept { return output_.out(); }
  Index inner_channels() const noexcept { return output_.in(); }
  Index heads() const noexcept { return heads_; }
  Index head_size() const noexcept { return inner_channels() / heads_; }
  /// The state before the first token: the empty context, or a trained one.
  State empty_state() const {
    State state{AlignedVector<T>(to_size(channels())), memories<typename Memory::State>(1)};
    reset(state);
    return state;
  }
  /// The gradient of a state that has no part in the loss.
  StateGradient empty_state_gradient() const {
    return {AlignedVector<T>(to_size(channels())), memories<typename Memory::StateGradient>(1)};
  }
  /// Room for `backward` over this many tokens of this many sequences, and for all smaller calls. It takes the numbers of
  /// (tokens / 16 + 3 sequences) states.
  Tape make_tape(Index tokens, Index sequences = 1) const {
    Index const at_once = std::min(sequences, most_sequences);
    return {memories<typename Memory::State>(at_once),
            memories<typename Memory::State>(tokens / Tape::every + std::min(sequences, tokens)),
            memories<typename Memory::StateGradient>(at_once)};
  }
  /// Puts a state back to that of empty_state(). It does not allocate.
  void reset(State& state) const noexcept {
    state.clear();
    Index const size = head_size() * head_size();
    if (!first_state_.empty())
      for (Index h = 0; h < heads_; ++h)
        import_state(state.s[to_size(h)].view(), VecView<T const>(first_state_).segment(h * size, size),
                     Orientation::value_key);
  }
  /// Of reset(): adds to the gradient of first_state, if it is wanted, that of a state before the first token.
  template <class Gradients> void reset_backward(StateGradient const& dstate, Gradients const& d) const noexcept {
    if (!d.first_state.wanted()) return;
    Index const n = head_size();
    AVIARY_ASSERT(d.first_state.rows() == inner_channels() && d.first_state.columns() == n);
    for (Index h = 0; h < heads_; ++h)
      for (Index value = 0; value < n; ++value)
        for (Index key = 0; key < n; ++key)
          d.first_state(h * n + value, key) += dstate.s[to_size(h)].view()(key, value);
  }

 protected:
  template <class Weights>
  MatrixTimeMix(Weights const& w, Index heads) : MatrixTimeMix(w, heads, heads, w.group_norm_eps) {}
  /// For a norm of fewer groups than heads.
  template <class Weights>
  MatrixTimeMix(Weights const& w, Index heads, Index groups, T eps)
      : heads_(heads),
        output_(w.output, w.format),
        ln_x_(w.ln_x_weight, w.ln_x_bias, groups, eps),
        first_state_(detail::copy_of(w.first_state)) {}

  /// N: the compile-time size, or else what a tensor says.
  static constexpr Index size_or(Index found) noexcept { return Memory::keys == dynamic ? found : Memory::keys; }

  /// @param n  the size of each of `heads` heads
  template <class Weights>
  static void expect_shapes(ExpectShapes expect, Weights const& w, Index c, Index heads, Index n) {
    Index const a = heads * n;
    expect_projections(expect, w, c, a);
    expect("ln_x_weight", w.ln_x_weight, a);
    expect("ln_x_bias", w.ln_x_bias, a);
    if (w.first_state.rows() > 0) expect("first_state", w.first_state, a, n);
  }

  /// Memories of so many sequences, all zero.
  template <class Of> std::vector<Of> memories(Index sequences) const {
    return std::vector<Of>(to_size(sequences * heads()), Of{head_size(), head_size()});
  }

  Source<Memory::keys> source(MatView<T> x) const noexcept { return source_of<Memory::keys>(x, heads_); }
  Sink<Memory::keys> sink(MatView<T> x) const noexcept { return sink_of<Memory::keys>(x, heads_); }

  /// Computes y (tokens, A), what the memories read, and moves the states of the heads on.
  template <class E>
  void read_memory(typename Memory::Inputs const& x, Packed<State> const& sequences, MatView<T> y, E& executor) const {
    run_memory<Memory>(x, sequences, heads_, sink_of<Memory::keys>(y, heads_), executor);
  }
  void normalize(MatView<T> read) const noexcept { normalize(read, read); }
  void normalize(MatView<T const> read, MatView<T> normal) const noexcept { ln_x_(read, normal); }

  /// @name Gradients of the same, in reverse order
  ///@{
  /// Of finish(): dread (tokens, A) from dy (tokens, C), and what reaches the output matrix.
  template <class Weights, class Gradients, class E>
  void finish_backward(Weights const& w, MatView<T const> read, MatView<T const> dy, MatView<T> dread,
                       Gradients const& d, E& executor) const {
    add_weight_gradient<T>(dy, read, d.output, executor);
    fill_rows(dread, T(0));
    add_input_gradient<T>(w.output, WeightLayout::out_in, dy, dread, executor);
  }
  /// Of normalize(): dread (tokens, A), which may be dnormal, and what reaches weight and bias.
  template <class Gradients>
  void normalize_backward(MatView<T const> read, MatView<T const> dnormal, MatView<T> dread, Gradients const& d,
                          Scratch<T>& scratch) const noexcept {
    ln_x_.backward(read, dnormal, dread, d.ln_x_weight, d.ln_x_bias, scratch);
  }
  /// The numbers of scratch that these need at once, apart from rows.
  Index backward_room(typename Memory::Inputs const& inputs, Index tokens, Index sequences,
                      Index concurrency) const noexcept {
    return std::max(ln_x_.backward_scratch_size(),
                    MemoryPath<Memory>::workspace_size(inputs, tokens, sequences, heads_, concurrency));
  }
  ///@}

  /// Computes y = W_o read.
  template <class E> void finish(MatView<T> read, MatView<T> y, E& executor) const { output_(read, y, executor); }

 private:
  Index heads_;
  Linear<T> output_;
  GroupNorm<T> ln_x_;
  AlignedVector<T> first_state_;
};
}  // namespace detail

}  // namespace AVIARY_NAMESPACE
