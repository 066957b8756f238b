#pragma once
/// The time mix of RWKV-7 "Goose" (Peng et al. 2025, arXiv:2503.14456).
///
///   X_c = x + (x' - x) x_c             x' is the token before; c in r, w, k, v, a, g
///   r = W_r X_r     k = W_k X_k     v = W_v X_v
///   log_w = -e^(-1/2) sigmoid(w0 + tanh(X_w w1) w2)
///   a = sigmoid(a0 + X_a a1 a2)        g = sigmoid(X_g g1) g2
///   v = v + (v_first - v) sigmoid(v0 + X_v v1 v2)      v_first is v of the first layer, which has no v0, v1, v2
///   kappa_hat = k*k_k / |k*k_k|        k = k (1 + (a - 1) k_a)
///   y = GroupNorm(wkv7(r, log_w, k, v, kappa_hat, a)) + (r . (k*r_k)) v         per head
///   out = W_o (y * g)
#include <optional>

#include "aviary/core/math.hpp"
#include "aviary/dense/low_rank.hpp"
#include "aviary/layers/parameters.hpp"
#include "aviary/layers/sequence_layer.hpp"
#include "aviary/layers/time_mix.hpp"
#include "aviary/wkv7.hpp"

namespace AVIARY_NAMESPACE {

/// C channels in and out, H heads of N numbers, A = H N. N is Size, or read from r_k where Size is dynamic.
template <class Number, Index Size, Stored S>
class TimeMix<Wkv7<Number, Size, Size, S>>
    : public detail::MatrixTimeMix<Wkv7<Number, Size, Size, S>>,
      public detail::SequenceLayer<TimeMix<Wkv7<Number, Size, Size, S>>, Number> {
  using Base = detail::MatrixTimeMix<Wkv7<Number, Size, Size, S>>;

 public:
  using Memory = Wkv7<Number, Size, Size, S>;
  using T = Number;
  using typename Base::State;
  static constexpr bool shares_values = true;

  /// The names of the weights. Linear weights are (out, in), low-rank factors (in, out).
  template <class As> struct Parameters {
    typename As::Vector x_r, x_w, x_k, x_v, x_a, x_g;    ///< (C) each: shares of the previous token
    typename As::Matrix receptance, key, value, output;  ///< (A, C) three times, (C, A)
    typename As::Vector w0;                              ///< (A)
    typename As::Matrix w1, w2;                          ///< (C, D), (D, A); each pair has a D of its own
    typename As::Vector a0;                              ///< (A)
    typename As::Matrix a1, a2;                          ///< (C, D), (D, A)
    typename As::Matrix g1, g2;                          ///< (C, D), (D, A)
    typename As::Vector k_k, k_a;                        ///< (A) each
    typename As::Table r_k;                              ///< (H, N)
    typename As::Vector ln_x_weight, ln_x_bias;          ///< (A) each
    typename As::Vector v0 = As::no_vector();            ///< (A); none in the first layer
    typename As::Matrix v1 = {}, v2 = {};                ///< (C, D), (D, A); none in the first layer
    typename As::template Setting<T> group_norm_eps = T(64e-5);
    typename As::template Setting<WeightFormat> format = WeightFormat::exact;
  };
  using Weights = Parameters<GivenWeights<T>>;       ///< the constructor copies them
  using Gradients = Parameters<WeightGradients<T>>;  ///< added to

  /// @throws std::invalid_argument if shapes do not fit together
  explicit TimeMix(Weights const& w)
      : Base(checked(w), w.r_k.rows()),
        shift_r_(w.x_r),
        shift_w_(w.x_w),
        shift_k_(w.x_k),
        shift_v_(w.x_v),
        shift_a_(w.x_a),
        shift_g_(w.x_g),
        receptance_(w.receptance, w.format),
        key_(w.key, w.format),
        value_(w.value, w.format),
        decay_(w.w1, w.w2, w.format),
        rate_(w.a1, w.a2, w.format),
        gate_(w.g1, w.g2, w.format),
        w0_(detail::copy_of(w.w0)),
        a0_(detail::copy_of(w.a0)),
        v0_(detail::copy_of(w.v0)),
        k_k_(detail::copy_of(w.k_k)),
        k_a_(detail::copy_of(w.k_a)),
        r_k_(detail::copy_of(w.r_k)) {
    if (!v0_.empty()) value_residual_.emplace(w.v1, w.v2, w.format);
  }

  /// The numbers of scratch that a token needs.
  Index scratch_size() const noexcept {
    Index const residual = value_residual_ ? value_residual_->scratch_size() : 0;
    return 2 * padded<T>(this->channels()) + 8 * padded<T>(this->inner_channels()) +
           std::max({decay_.scratch_size(), rate_.scratch_size(), gate_.scratch_size(), residual});
  }

 private:
  friend detail::SequenceLayer<TimeMix, T>;

  template <class E>
  void stretch(MatView<T const> x, Packed<State> const& sequences, MatView<T> y, Scratch<T>& scratch,
               MatView<T> v_first, E& executor) const {
    AVIARY_ASSERT(v_first.columns() == this->inner_channels() && v_first.rows() == x.rows());
    auto const take = [&] { return scratch.rows(x.rows(), this->inner_channels()); };
    MatView<T> const r = take(), log_w = take(), k = take(), v = take(), kappa_hat = take(), a = take(), g = take();
    MatView<T> const read = take(), shifted = scratch.rows(x.rows(), this->channels());
    MatView<T> const before = scratch.rows(x.rows(), this->channels());
    detail::shift_rows(x, sequences, before);
    auto const shift = [&](TokenShift<T> const& by) {
      by(x, before, shifted);
      return MatView<T const>(shifted);
    };

    receptance_(shift(shift_r_), r, executor);
    key_(shift(shift_k_), k, executor);
    decay_(shift(shift_w_), activation::tanh, log_w, scratch, executor);
    detail::transform_rows(
        log_w, [](auto const& w, auto const& w0) { return log_w_of_sigmoid(w0 + w); }, log_w, w0_);
    rate_(shift(shift_a_), activation::none, a, scratch, executor);
    detail::transform_rows(
        a, [](auto const& e, auto const& a0) { return sigmoid(a0 + e); }, a, a0_);
    value_(shift(shift_v_), v, executor);
    mix_values(shifted, v_first, v, g, scratch, executor);
    gate_(shift(shift_g_), activation::sigmoid, g, scratch, executor);
    make_keys(k, a, kappa_hat);

    this->read_memory({.r = this->source(r),
                       .log_w = this->source(log_w),
                       .k = this->source(k),
                       .v = this->source(v),
                       .kappa_hat = this->source(kappa_hat),
                       .a = this->source(a)},
                      sequences, read, executor);
    this->normalize(read);
    add_bonus(r, k, v, g, read);
    this->finish(read, y, executor);
  }

  /// Moves v towards that of the first layer; lora is room for a matrix like v.
  template <class E>
  void mix_values(MatView<T const> shifted, MatView<T> v_first, MatView<T> v, MatView<T> lora, Scratch<T>& scratch,
                  E& executor) const {
    if (!value_residual_) return detail::transform_rows(v_first, activation::none, v);
    (*value_residual_)(shifted, activation::none, lora, scratch, executor);
    detail::transform_rows(
        v,
        [](auto const& e, auto const& first, auto const& w, auto const& v0) {
          return simd::Pack<std::remove_cvref_t<decltype(e)>>::fma(first - e, sigmoid(v0 + w), e);
        },
        v, v_first, lora, v0_);
  }

  /// Makes the removal key from k, then scales k by the learning rate.
  void make_keys(MatView<T> k, MatView<T> a, MatView<T> kappa_hat) const noexcept {
    detail::transform_rows(
        kappa_hat, [](auto const& e, auto const& k_k) { return e * k_k; }, k, k_k_);
    normalize_heads(kappa_hat, this->head_size());
    detail::transform_rows(
        k,
        [](auto const& e, auto const& rate, auto const& k_a) {
          using P = std::remove_cvref_t<decltype(e)>;
          return e * simd::Pack<P>::fma(rate - P(1), k_a, P(1));
        },
        k, a, k_a_);
  }

  /// y = (y + (r . (k*r_k)) v) * g, the product per head.
  void add_bonus(MatView<T> r, MatView<T> k, MatView<T> v, MatView<T> g, MatView<T> y) const noexcept {
    Index const size = this->head_size();
    for (Index t = 0; t < y.rows(); ++t)
      for (Index at = 0; at < y.columns(); at += size) {
        T const bonus = simd::sum(
            size, [](auto const& e, auto const& f, auto const& w) { return e * f * w; }, &r(t, at), &k(t, at),
            r_k_.data() + at);
        simd::transform(
            size, &y(t, at),
            [bonus](auto const& e, auto const& f, auto const& gate) {
              using P = std::remove_cvref_t<decltype(e)>;
              return simd::Pack<P>::fma(P(bonus), f, e) * gate;
            },
            &y(t, at), &v(t, at), &g(t, at));
      }
  }

  static Weights const& checked(Weights const& w) {
    detail::ExpectShapes const expect{"TimeMix<Wkv7>"};
    Index const c = w.x_r.size(), h = w.r_k.rows(), n = Base::size_or(w.r_k.columns()), a = h * n;
    expect("r_k", w.r_k, std::max(h, Index{1}), std::max(n, Index{1}));
    struct Vector {
      char const* name;
      VecView<T const> weight;
      Index size;
    };
    for (auto const& [name, weight, size] : {Vector{"x_w", w.x_w, c}, Vector{"x_k", w.x_k, c}, Vector{"x_v", w.x_v, c},
                                             Vector{"x_a", w.x_a, c}, Vector{"x_g", w.x_g, c}, Vector{"w0", w.w0, a},
                                             Vector{"a0", w.a0, a}, Vector{"k_k", w.k_k, a}, Vector{"k_a", w.k_a, a}})
      expect(name, weight, size);
    Base::expect_shapes(expect, w, c, a);
    detail::expect_low_rank(expect, "w1", w.w1, c, "w2", w.w2, a);
    detail::expect_low_rank(expect, "a1", w.a1, c, "a2", w.a2, a);
    detail::expect_low_rank(expect, "g1", w.g1, c, "g2", w.g2, a);
    if (w.v0.size() == 0) return w;
    expect("v0", w.v0, a);
    detail::expect_low_rank(expect, "v1", w.v1, c, "v2", w.v2, a);
    return w;
  }

  TokenShift<T> shift_r_, shift_w_, shift_k_, shift_v_, shift_a_, shift_g_;
  Linear<T> receptance_, key_, value_;
  LowRank<T> decay_, rate_, gate_;
  std::optional<LowRank<T>> value_residual_;
  AlignedVector<T> w0_, a0_, v0_, k_k_, k_a_, r_k_;
};

}  // namespace AVIARY_NAMESPACE
