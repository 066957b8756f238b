#pragma once
/// The time mix Finch-C2 of GoldFinch (Goldstein et al. 2024, arXiv:2407.12077): that of RWKV-6 without gate and bonus,
/// with keys weighed by what the decay leaves room for, and a second value that goes past the memory.
///
///   X_c = x shifted by slice c of a LowRankTokenShift      c in r, k, v, w, v2
///   r = W_r X_r     k = W_k X_k     v = W_v X_v     log_w = -exp(time_decay + tanh(X_w w1) w2)
///   v2 = W_v X_v2 + tanh(X_v2 value2_w1) value2_w2
///   out = W_o LayerNorm(finch_c2(r, log_w, k, v) + v2)      the norm over all channels
#include "aviary/core/error.hpp"
#include "aviary/core/math.hpp"
#include "aviary/dense/low_rank.hpp"
#include "aviary/layers/low_rank_token_shift.hpp"
#include "aviary/layers/parameters.hpp"
#include "aviary/layers/sequence_layer.hpp"
#include "aviary/layers/time_mix.hpp"
#include "aviary/wkv6.hpp"

namespace AVIARY_NAMESPACE {

/// C channels in and out, H heads of N numbers, A = H N. N is Size, or A / heads where Size is dynamic.
template <class Number, Index Size, Stored S>
class TimeMix<FinchC2<Number, Size, Size, S>>
    : public detail::MatrixTimeMix<FinchC2<Number, Size, Size, S>>,
      public detail::SequenceLayer<TimeMix<FinchC2<Number, Size, Size, S>>, Number> {
  using Base = detail::MatrixTimeMix<FinchC2<Number, Size, Size, S>>;

 public:
  using Memory = FinchC2<Number, Size, Size, S>;
  using T = Number;
  using typename Base::State;
  using Shift = LowRankTokenShift<T, 5>;
  static constexpr bool shares_values = false;

  /// The names of the weights. Linear weights are (out, in), low-rank factors (in, out).
  template <class As> struct Parameters {
    typename Shift::template Parameters<As> shift;         ///< slices r, k, v, w, v2
    typename As::Matrix receptance, key, value, output;    ///< (A, C) three times, (C, A)
    typename As::Vector time_decay;                        ///< (A)
    typename As::Matrix w1, w2;                            ///< (C, D), (D, A)
    typename As::Matrix value2_w1, value2_w2;              ///< (C, D), (D, A)
    typename As::template Setting<Required<Index>> heads;  ///< H
    typename As::Vector ln_x_weight, ln_x_bias;            ///< (A) each
    typename As::template Setting<T> layer_norm_eps = T(1e-5);
    typename As::template Setting<WeightFormat> format = WeightFormat::exact;
  };
  using Weights = Parameters<GivenWeights<T>>;       ///< the constructor copies them
  using Gradients = Parameters<WeightGradients<T>>;  ///< added to

  /// @throws std::invalid_argument if shapes do not fit together
  explicit TimeMix(Weights const& w)
      : Base(checked(w), w.heads, 1, w.layer_norm_eps),
        shift_(w.shift),
        receptance_(w.receptance, w.format),
        key_(w.key, w.format),
        value_(w.value, w.format),
        decay_(w.time_decay, w.w1, w.w2, w.format),
        value2_(w.value2_w1, w.value2_w2, w.format) {}

  /// The numbers of scratch that a token needs.
  Index scratch_size() const noexcept {
    return 2 * padded<T>(this->channels()) + padded<T>(shift_.hidden_size()) + 6 * padded<T>(this->inner_channels()) +
           std::max({shift_.scratch_size(), decay_.scratch_size(), value2_.scratch_size()});
  }

 private:
  friend detail::SequenceLayer<TimeMix, T>;
  enum Slice : Index { slice_r, slice_k, slice_v, slice_w, slice_v2 };

  template <class E>
  void stretch(MatView<T const> x, Packed<State> const& sequences, MatView<T> y, Scratch<T>& scratch,
               E& executor) const {
    auto const take = [&] { return scratch.rows(x.rows(), this->inner_channels()); };
    MatView<T> const r = take(), log_w = take(), k = take(), v = take(), v2 = take(), read = take();
    MatView<T> const shifted = scratch.rows(x.rows(), this->channels());
    MatView<T> const before = scratch.rows(x.rows(), this->channels());
    MatView<T> const hidden = scratch.rows(x.rows(), shift_.hidden_size());
    detail::shift_rows(x, sequences, before);
    shift_.prepare(x, before, hidden, scratch, executor);
    auto const shift = [&](Slice slice) {
      shift_(slice, hidden, x, before, shifted, executor);
      return MatView<T const>(shifted);
    };

    receptance_(shift(slice_r), r, executor);
    key_(shift(slice_k), k, executor);
    value_(shift(slice_v), v, executor);
    decay_(shift(slice_w), log_w, scratch, executor);
    this->read_memory({.r = this->source(r), .log_w = this->source(log_w), .k = this->source(k), .v = this->source(v)},
                      sequences, read, executor);
    value_(shift(slice_v2), v2, executor);
    value2_(shifted, activation::tanh, r, scratch, executor);
    detail::transform_rows(
        read, [](auto const& e, auto const& value, auto const& lora) { return e + (value + lora); }, read, v2, r);
    this->normalize(read);
    this->finish(read, y, executor);
  }

  static Weights const& checked(Weights const& w) {
    detail::ExpectShapes const expect{"TimeMix<FinchC2>"};
    Index const c = w.shift.base.size(), a = w.key.rows(), h = w.heads;
    if (h <= 0 || a % h != 0 || (Size != dynamic && a / h != Size))
      detail::refuse("TimeMix<FinchC2>: " + std::to_string(a) + " rows of key do not make " + std::to_string(h) +
                     " heads" + (Size == dynamic ? "" : " of " + std::to_string(Size)));
    Base::expect_shapes(expect, w, c, a);
    expect("time_decay", w.time_decay, a);
    detail::expect_low_rank(expect, "w1", w.w1, c, "w2", w.w2, a);
    detail::expect_low_rank(expect, "value2_w1", w.value2_w1, c, "value2_w2", w.value2_w2, a);
    return w;
  }

  Shift shift_;
  Linear<T> receptance_, key_, value_;
  LowRankDecay<T> decay_;
  LowRank<T> value2_;
};

}  // namespace AVIARY_NAMESPACE
