#pragma once
/// The channel mix of RWKV-4 to RWKV-7: a two-layer network that reads a token and the one before.
#include <algorithm>
#include <optional>

#include "aviary/core/math.hpp"
#include "aviary/layers/parameters.hpp"
#include "aviary/layers/sequence_layer.hpp"
#include "aviary/layers/shifted_linear.hpp"

namespace AVIARY_NAMESPACE {

/// y = W_v relu(W_k shift_k(x))^2  in RWKV-7; times sigmoid(W_r shift_r(x)) in RWKV-4, 5 and 6.
template <class T> class ChannelMix : public detail::SequenceLayer<ChannelMix<T>, T> {
 public:
  /// The names of the weights.
  template <class As> struct Parameters {
    typename As::Vector x_k;                                            ///< (C): the shares of the token shift
    typename As::Matrix key, value;                                     ///< (F, C), (C, F)
    typename As::Vector x_r = As::no_vector();                          ///< (C); none in RWKV-7
    typename As::Matrix receptance = {};                                ///< (C, C); none in RWKV-7
    typename As::template Setting<ShareOf> shares = ShareOf::previous;  ///< what x_k and x_r are
    typename As::template Setting<WeightFormat> format = WeightFormat::exact;
  };
  using Weights = Parameters<GivenWeights<T>>;       ///< the constructor copies them
  using Gradients = Parameters<WeightGradients<T>>;  ///< added to

  /// The input of the token before. Zeros are the empty context.
  struct State {
    AlignedVector<T> x;
    friend bool operator==(State const&, State const&) = default;
  };

  /// @throws std::invalid_argument if shapes do not fit together
  explicit ChannelMix(Weights const& w) : key_(checked(w).x_k, w.shares, w.key, w.format), value_(w.value, w.format) {
    if (w.receptance.rows() > 0) receptance_.emplace(w.x_r, w.shares, w.receptance, w.format);
  }

  Index channels() const noexcept { return key_.in(); }
  State empty_state() const { return {AlignedVector<T>(to_size(channels()))}; }
  /// Puts a state back to the empty context. It does not allocate.
  void reset(State& state) const noexcept { std::fill(state.x.begin(), state.x.end(), T(0)); }
  /// The numbers of scratch that a token needs.
  Index scratch_size() const noexcept {
    return padded<T>(key_.out()) + (receptance_ ? 2 : 1) * padded<T>(channels()) + key_.scratch_size();
  }

 private:
  friend detail::SequenceLayer<ChannelMix, T>;

  template <class E>
  void stretch(MatView<T const> x, Packed<State> const& sequences, MatView<T> y, Scratch<T>& scratch,
               E& executor) const {
    MatView<T> const inner = scratch.rows(x.rows(), key_.out()), before = scratch.rows(x.rows(), channels());
    detail::shift_rows(x, sequences, before);
    key_(x, before, inner, scratch, executor);
    detail::transform_rows(
        inner, [](auto const& k) { return squared_relu(k); }, inner);
    value_(inner, y, executor);
    if (receptance_) {
      MatView<T> const r = scratch.rows(x.rows(), channels());
      (*receptance_)(x, before, r, scratch, executor);
      detail::transform_rows(
          y, [](auto const& v, auto const& g) { return v * sigmoid(g); }, y, r);
    }
  }

  static Weights const& checked(Weights const& w) {
    Index const channels = w.x_k.size(), inner = w.key.rows();
    detail::ExpectShapes const expect{"ChannelMix"};
    expect("key", w.key, inner, channels);
    expect("value", w.value, channels, inner);
    if (w.receptance.rows() == 0) return w;
    expect("x_r", w.x_r, channels);
    expect("receptance", w.receptance, channels, channels);
    return w;
  }

  ShiftedLinear<T> key_;
  Linear<T> value_;
  std::optional<ShiftedLinear<T>> receptance_;
};

}  // namespace AVIARY_NAMESPACE
