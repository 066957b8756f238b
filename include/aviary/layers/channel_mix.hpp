#pragma once
/// The channel mix of RWKV-4 to RWKV-7: a two-layer network on a token and the one before.
#include <optional>

#include "aviary/core/math.hpp"
#include "aviary/layers/linear.hpp"
#include "aviary/layers/scratch.hpp"
#include "aviary/layers/token_shift.hpp"

namespace aviary {

/// y = W_v relu(W_k shift_k(x))^2  in RWKV-7; times sigmoid(W_r shift_r(x)) in RWKV-4, 5 and 6.
template <class T> class ChannelMix {
 public:
  /// Copied by the constructor. x_k and x_r are shares of the previous token (see TokenShift).
  struct Weights {
    VecView<T const> x_k;                 ///< (C)
    WeightMatrix key, value;              ///< (F, C), (C, F)
    VecView<T const> x_r = {nullptr, 0};  ///< (C); none in RWKV-7
    WeightMatrix receptance = {};         ///< (C, C); none in RWKV-7
    WeightFormat format = WeightFormat::full;
  };

  /// The input of the token before; zeros are the empty context.
  struct State {
    AlignedVector<T> x;
    friend bool operator==(State const&, State const&) = default;
  };

  /// @throws std::invalid_argument when shapes do not fit together
  explicit ChannelMix(Weights const& w) : shift_k_(w.x_k), key_(w.key, w.format), value_(w.value, w.format) {
    Index const channels = w.x_k.size(), inner = w.key.rows();
    detail::ExpectShapes const expect{"ChannelMix"};
    expect("key", w.key, inner, channels);
    expect("value", w.value, channels, inner);
    if (w.receptance.rows() == 0) return;
    expect("x_r", w.x_r, channels);
    expect("receptance", w.receptance, channels, channels);
    gate_.emplace(Gate{TokenShift<T>(w.x_r), Linear<T>(w.receptance, w.format)});
  }

  Index channels() const noexcept { return shift_k_.channels(); }
  State empty_state() const { return {AlignedVector<T>(to_size(channels()))}; }
  /// Numbers of scratch for a token.
  Index scratch_size() const noexcept { return (gate_ ? 2 : 1) * padded<T>(channels()) + padded<T>(key_.out()); }

  /// Any number of tokens. x, y (tokens, channels); y must not overlap x.
  template <Executor E = Serial>
  void operator()(MatView<T const> x, State& state, MatView<T> y, Scratch<T>& scratch, E&& executor = {}) const {
    scratch.for_stretches(x.rows(), scratch_size(), [&](Index first, Index count) {
      stretch(x.rows(first, count), state, y.rows(first, count), scratch, executor);
    });
  }

 private:
  struct Gate {
    TokenShift<T> shift;
    Linear<T> receptance;
  };

  template <class E>
  void stretch(MatView<T const> x, State& state, MatView<T> y, Scratch<T>& scratch, E& executor) const {
    MatView<T> const shifted = scratch.rows(x.rows(), channels()), inner = scratch.rows(x.rows(), key_.out());
    shift_k_(x, state.x, shifted);
    key_(shifted, inner, executor);
    detail::transform_rows(
        inner, [](auto const& k) { return squared_relu(k); }, inner);
    value_(inner, y, executor);
    if (gate_) {
      MatView<T> const r = scratch.rows(x.rows(), channels());
      gate_->shift(x, state.x, shifted);
      gate_->receptance(shifted, r, executor);
      detail::transform_rows(
          y, [](auto const& v, auto const& g) { return v * sigmoid(g); }, y, r);
    }
    detail::keep_last_row(x, state.x);
  }

  TokenShift<T> shift_k_;
  Linear<T> key_, value_;
  std::optional<Gate> gate_;
};

}  // namespace aviary
