#pragma once
/// What the time mixes of RWKV-6 and GoldFinch begin with: the slices of a LowRankTokenShift as rows of a call, and the
/// way back from them to the layer's input.
#include "aviary/core/scratch.hpp"
#include "aviary/dense/gradient.hpp"
#include "aviary/layers/low_rank_token_shift.hpp"
#include "aviary/layers/packed.hpp"

namespace AVIARY_NAMESPACE::detail {

/// The rows of a call: x shifted by each of N slices.
template <class T, Index N> struct ShiftedSlices {
  using Shift = LowRankTokenShift<T, N>;

  MatView<T> before, hidden, shifted;  // (tokens, C), (tokens, N D); N rows of C side by side, or one for all

  /// @param keeps  whether slices are to stay, or each may lie in the place of the one before
  /// @param take  lends rows of so many numbers
  template <class Take> static ShiftedSlices of(Shift const& shift, bool keeps, Take& take) noexcept {
    Index const c = shift.channels();
    return {take(c), take(shift.hidden_size()), take(keeps ? N * padded<T>(c) : c)};
  }

  /// Computes `before` and `hidden`. States that are not const keep the last row of each sequence.
  template <class State, class E>
  void prepare(Shift const& shift, MatView<T const> x, Packed<State> const& sequences, Scratch<T>& scratch,
               E& executor) const {
    shift_rows(x, sequences, before);
    shift.prepare(x, before, hidden, scratch, executor);
  }
  /// Computes slice n, and returns it.
  template <class E> MatView<T const> compute(Index n, Shift const& shift, MatView<T const> x, E& executor) const {
    shift(n, hidden, x, before, slice(n), executor);
    return slice(n);
  }
  MatView<T> slice(Index n) const noexcept {
    Index const c = before.columns(), first = shifted.columns() > c ? n * padded<T>(c) : 0;
    return columns_of(shifted, first, first + c);
  }
};

/// What reaches the rows of ShiftedSlices, of one slice at a time.
template <class T> struct ShiftedSliceGradients {
  MatView<T> before, hidden, shifted;  // (tokens, C), (tokens, N D), (tokens, C)

  template <class Shift, class Take> static ShiftedSliceGradients of(Shift const& shift, Take& take) noexcept {
    return {take(shift.channels()), take(shift.hidden_size()), take(shift.channels())};
  }
};

/// The way back, once through each slice and then through what they share.
template <class T, Index N, class E> struct ShiftedSlicesBackward {
  using Shift = LowRankTokenShift<T, N>;

  Shift const& shift;
  typename Shift::Weights const& weights;
  MatView<T const> x;
  ShiftedSlices<T, N> const& slices;  // all of them kept
  ShiftedSliceGradients<T> const& d;  // `before` is zero at the beginning
  MatView<T> dx;
  typename Shift::Gradients const& dweights;
  Scratch<T>& scratch;
  E& executor;

  /// @param add  adds to its second argument what reaches the first, slice n
  template <class F> void through(Index n, F&& add) const {
    fill_rows(d.shifted, T(0));
    add(MatView<T const>(slices.slice(n)), d.shifted);
    shift.backward(n, weights, slices.hidden, x, slices.before, d.shifted, d.hidden, dx, d.before, dweights, scratch,
                   executor);
  }
  /// From dy, of y = W times slice n.
  void through_linear(Index n, WeightMatrix const& w, MatView<T const> dy, MatSink<T> dw) const {
    through(n, [&](MatView<T const> slice, MatView<T> dslice) { add_linear(w, slice, dy, dslice, dw); });
  }
  /// dslice += dy W, dw += dy^T slice.
  void add_linear(WeightMatrix const& w, MatView<T const> slice, MatView<T const> dy, MatView<T> dslice,
                  MatSink<T> dw) const {
    add_input_gradient<T>(w, WeightLayout::out_in, dy, dslice, executor);
    add_weight_gradient<T>(dy, slice, dw, executor);
  }
  /// After all slices.
  template <class State, class StateGradient>
  void finish(Packed<State> const& sequences, States<StateGradient> const& dstates) const {
    shift.prepare_backward(weights, x, slices.before, slices.hidden, d.hidden, dx, d.before, dweights, scratch,
                           executor);
    shift_rows_backward<T>(d.before, sequences, dx, dstates);
  }
};

}  // namespace AVIARY_NAMESPACE::detail
