#pragma once
/// The time mix of RWKV-5 "Eagle" (Peng et al. 2024, arXiv:2404.05892), versions 5.0, 5.1 and 5.2.
///
///   X_c = x' + (x - x') mix_c          x' is the token before; c in r, k, v, g
///   r = W_r X_r     k = W_k X_k     v = W_v X_v     g = silu(W_g X_g)
///   out = W_o (GroupNorm(wkv5(r, k, v)) * g)        per head, log_w = -exp(time_decay)
///
/// Version 5.0 has no g. Decay and bonus are one of each head in 5.0 and 5.1, N of them in 5.2.
#include <optional>

#include "aviary/core/math.hpp"
#include "aviary/layers/parameters.hpp"
#include "aviary/layers/sequence_layer.hpp"
#include "aviary/layers/shifted_linear.hpp"
#include "aviary/layers/time_mix.hpp"
#include "aviary/wkv5.hpp"

namespace AVIARY_NAMESPACE {

/// Wkv5 or Wkv5PerHead. C channels in and out, H heads of N numbers, A = H N. N is Size, or A / H where Size is dynamic.
template <Axis decay, class Number, Index Size, Stored S>
class TimeMix<MatrixMemory<Wkv5Rule<decay>, Number, Size, Size, S>>
    : public detail::MatrixTimeMix<MatrixMemory<Wkv5Rule<decay>, Number, Size, Size, S>>,
      public detail::SequenceLayer<TimeMix<MatrixMemory<Wkv5Rule<decay>, Number, Size, Size, S>>, Number> {
  using Base = detail::MatrixTimeMix<MatrixMemory<Wkv5Rule<decay>, Number, Size, Size, S>>;

 public:
  using Memory = MatrixMemory<Wkv5Rule<decay>, Number, Size, Size, S>;
  using T = Number;
  using typename Base::State;
  static constexpr bool shares_values = false;

  /// The names of the weights. Linear weights are (out, in).
  template <class As> struct Parameters {
    typename As::Vector mix_r, mix_k, mix_v;             ///< (C) each: shares of the current token (time_mix_r ...)
    typename As::Matrix receptance, key, value, output;  ///< (A, C) three times, (C, A)
    typename As::Table time_decay;                       ///< (H, N); with Wkv5PerHead (H, 1)
    typename As::Table u;                                ///< likewise: the bonus, time_faaaa or exp(time_first)
    typename As::Vector ln_x_weight, ln_x_bias;          ///< (A) each
    typename As::Vector mix_g = As::no_vector();         ///< (C); none in version 5.0
    typename As::Matrix gate = {};                       ///< (A, C); none in version 5.0
    typename As::template Setting<T> group_norm_eps = T(64e-5);
    typename As::template Setting<WeightFormat> format = WeightFormat::exact;
  };
  using Weights = Parameters<GivenWeights<T>>;       ///< the constructor copies them
  using Gradients = Parameters<WeightGradients<T>>;  ///< added to

  /// @throws std::invalid_argument if shapes do not fit together
  explicit TimeMix(Weights const& w)
      : Base(checked(w), w.u.rows()),
        receptance_(w.mix_r, ShareOf::current, w.receptance, w.format),
        key_(w.mix_k, ShareOf::current, w.key, w.format),
        value_(w.mix_v, ShareOf::current, w.value, w.format),
        log_w_(detail::copy_of(w.time_decay)),
        u_(detail::copy_of(w.u)) {
    for (T& e : log_w_) e = log_w_of_exponential(e);
    if (w.gate.rows() > 0) gate_.emplace(w.mix_g, ShareOf::current, w.gate, w.format);
  }

  /// The numbers of scratch that a token needs.
  Index scratch_size() const noexcept {
    return 4 * padded<T>(this->inner_channels()) + padded<T>(this->channels()) + key_.scratch_size();
  }

 private:
  friend detail::SequenceLayer<TimeMix, T>;

  template <class E>
  void stretch(MatView<T const> x, Packed<State> const& sequences, MatView<T> y, Scratch<T>& scratch,
               E& executor) const {
    auto const take = [&] { return scratch.rows(x.rows(), this->inner_channels()); };
    MatView<T> const r = take(), k = take(), v = take(), read = take();
    MatView<T> const before = scratch.rows(x.rows(), this->channels());
    detail::shift_rows(x, sequences, before);
    receptance_(x, before, r, scratch, executor);
    key_(x, before, k, scratch, executor);
    value_(x, before, v, scratch, executor);
    this->read_memory({.r = this->source(r),
                       .log_w = per_head(log_w_),
                       .k = this->source(k),
                       .v = this->source(v),
                       .u = per_head(u_)},
                      sequences, read, executor);
    this->normalize(read);
    if (gate_) {
      (*gate_)(x, before, r, scratch, executor);
      detail::transform_rows(
          read, [](auto const& e, auto const& g) { return e * silu(g); }, read, r);
    }
    this->finish(read, y, executor);
  }

  /// Numbers of each head: N, or one.
  auto per_head(AlignedVector<T> const& numbers) const noexcept {
    if constexpr (decay == Axis::head_key)
      return HeadSource<Size>(numbers.data(), this->heads(), this->head_size());
    else
      return HeadSource<1>(numbers.data(), this->heads());
  }

  static Weights const& checked(Weights const& w) {
    detail::ExpectShapes const expect{decay == Axis::head_key ? "TimeMix<Wkv5>" : "TimeMix<Wkv5PerHead>"};
    Index const c = w.mix_r.size(), h = std::max(w.u.rows(), Index{1});
    Index const n = Base::size_or(std::max(w.key.rows() / h, Index{1}));
    Index const constants = decay == Axis::head_key ? n : 1;
    expect("u", w.u, h, constants);
    expect("time_decay", w.time_decay, h, constants);
    expect("mix_k", w.mix_k, c);
    expect("mix_v", w.mix_v, c);
    Base::expect_shapes(expect, w, c, h * n);
    if (w.gate.rows() == 0) return w;
    expect("mix_g", w.mix_g, c);
    expect("gate", w.gate, h * n, c);
    return w;
  }

  ShiftedLinear<T> receptance_, key_, value_;
  std::optional<ShiftedLinear<T>> gate_;
  AlignedVector<T> log_w_, u_;
};

}  // namespace AVIARY_NAMESPACE
