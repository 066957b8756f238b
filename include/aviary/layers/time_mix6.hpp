#pragma once
/// The time mix of RWKV-6 "Finch" (Peng et al. 2024, arXiv:2404.05892).
///
///   X_c = x shifted by slice c of a LowRankTokenShift      c in w, k, v, r, g
///   r = W_r X_r     k = W_k X_k     v = W_v X_v     g = silu(W_g X_g)
///   log_w = -exp(time_decay + tanh(X_w w1) w2)
///   out = W_o (GroupNorm(wkv6(r, log_w, k, v)) * g)     per head
#include "aviary/core/math.hpp"
#include "aviary/dense/low_rank.hpp"
#include "aviary/layers/low_rank_token_shift.hpp"
#include "aviary/layers/parameters.hpp"
#include "aviary/layers/sequence_layer.hpp"
#include "aviary/layers/time_mix.hpp"
#include "aviary/wkv6.hpp"

namespace AVIARY_NAMESPACE {

/// C channels in and out, H heads of N numbers, A = H N. N is Size, or read from u where Size is dynamic.
template <class Number, Index Size, Stored S>
class TimeMix<Wkv6<Number, Size, Size, S>>
    : public detail::MatrixTimeMix<Wkv6<Number, Size, Size, S>>,
      public detail::SequenceLayer<TimeMix<Wkv6<Number, Size, Size, S>>, Number> {
  using Base = detail::MatrixTimeMix<Wkv6<Number, Size, Size, S>>;

 public:
  using Memory = Wkv6<Number, Size, Size, S>;
  using T = Number;
  using typename Base::State;
  using Shift = LowRankTokenShift<T, 5>;
  static constexpr bool shares_values = false;

  /// The names of the weights. Linear weights are (out, in), low-rank factors (in, out).
  template <class As> struct Parameters {
    typename Shift::template Parameters<As> shift;             ///< slices w, k, v, r, g
    typename As::Matrix receptance, key, value, gate, output;  ///< (A, C) four times, (C, A)
    typename As::Vector time_decay;                            ///< (A)
    typename As::Matrix w1, w2;                                ///< (C, D), (D, A)
    typename As::Table u;                                      ///< (H, N): time_faaaa
    typename As::Vector ln_x_weight, ln_x_bias;                ///< (A) each
    typename As::Table first_state = As::no_table();  ///< (H N, N), rows of (head, value): a trained empty context
    typename As::template Setting<T> group_norm_eps = T(64e-5);
    typename As::template Setting<WeightFormat> format = WeightFormat::exact;
  };
  using Weights = Parameters<GivenWeights<T>>;       ///< the constructor copies them
  using Gradients = Parameters<WeightGradients<T>>;  ///< added to

  /// @throws std::invalid_argument if shapes do not fit together
  explicit TimeMix(Weights const& w)
      : Base(checked(w), w.u.rows()),
        shift_(w.shift),
        receptance_(w.receptance, w.format),
        key_(w.key, w.format),
        value_(w.value, w.format),
        gate_(w.gate, w.format),
        decay_(w.time_decay, w.w1, w.w2, w.format),
        u_(detail::copy_of(w.u)),
        first_state_(detail::copy_of(w.first_state)) {}

  /// The state before the first token: the empty context, or a trained one.
  State empty_state() const {
    State state = Base::empty_state();
    reset(state);
    return state;
  }
  /// Puts a state back to that of empty_state(). It does not allocate.
  void reset(State& state) const noexcept {
    Base::reset(state);
    Index const size = this->head_size() * this->head_size();
    if (!first_state_.empty())
      for (Index h = 0; h < this->heads(); ++h)
        import_state(state.s[to_size(h)].view(), VecView<T const>(first_state_).segment(h * size, size),
                     Orientation::value_key);
  }
  /// The numbers of scratch that a token needs.
  Index scratch_size() const noexcept {
    return 2 * padded<T>(this->channels()) + padded<T>(shift_.hidden_size()) + 5 * padded<T>(this->inner_channels()) +
           std::max(shift_.scratch_size(), decay_.scratch_size());
  }

 private:
  friend detail::SequenceLayer<TimeMix, T>;
  enum Slice : Index { slice_w, slice_k, slice_v, slice_r, slice_g };

  template <class E>
  void stretch(MatView<T const> x, Packed<State> const& sequences, MatView<T> y, Scratch<T>& scratch,
               E& executor) const {
    auto const take = [&] { return scratch.rows(x.rows(), this->inner_channels()); };
    MatView<T> const r = take(), log_w = take(), k = take(), v = take(), read = take();
    MatView<T> const shifted = scratch.rows(x.rows(), this->channels());
    MatView<T> const before = scratch.rows(x.rows(), this->channels());
    MatView<T> const hidden = scratch.rows(x.rows(), shift_.hidden_size());
    detail::shift_rows(x, sequences, before);
    shift_.prepare(x, before, hidden, scratch, executor);
    auto const shift = [&](Slice slice) {
      shift_(slice, hidden, x, before, shifted, executor);
      return MatView<T const>(shifted);
    };

    decay_(shift(slice_w), log_w, scratch, executor);
    receptance_(shift(slice_r), r, executor);
    key_(shift(slice_k), k, executor);
    value_(shift(slice_v), v, executor);
    this->read_memory({.r = this->source(r),
                       .log_w = this->source(log_w),
                       .k = this->source(k),
                       .v = this->source(v),
                       .u = {u_.data(), this->heads(), this->head_size()}},
                      sequences, read, executor);
    this->normalize(read);
    gate_(shift(slice_g), r, executor);
    detail::transform_rows(
        read, [](auto const& e, auto const& g) { return e * silu(g); }, read, r);
    this->finish(read, y, executor);
  }

  static Weights const& checked(Weights const& w) {
    detail::ExpectShapes const expect{"TimeMix<Wkv6>"};
    Index const c = w.shift.base.size(), h = w.u.rows(), n = Base::size_or(w.u.columns()), a = h * n;
    expect("u", w.u, std::max(h, Index{1}), std::max(n, Index{1}));
    Base::expect_shapes(expect, w, c, a);
    expect("gate", w.gate, a, c);
    expect("time_decay", w.time_decay, a);
    detail::expect_low_rank(expect, "w1", w.w1, c, "w2", w.w2, a);
    if (w.first_state.rows() > 0) expect("first_state", w.first_state, a, n);
    return w;
  }

  Shift shift_;
  Linear<T> receptance_, key_, value_, gate_;
  LowRankDecay<T> decay_;
  AlignedVector<T> u_, first_state_;
};

}  // namespace AVIARY_NAMESPACE
