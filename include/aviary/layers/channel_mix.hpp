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
template <class Number> class ChannelMix : public detail::SequenceLayer<ChannelMix<Number>, Number> {
 public:
  using T = Number;

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

  using StateGradient = State;
  using BackwardCall = detail::LayerBackwardCall<ChannelMix>;

  /// @throws std::invalid_argument if shapes do not fit together
  explicit ChannelMix(Weights const& w) : key_(checked(w).x_k, w.shares, w.key, w.format), value_(w.value, w.format) {
    if (w.receptance.rows() > 0) receptance_.emplace(w.x_r, w.shares, w.receptance, w.format);
  }

  Index channels() const noexcept { return key_.in(); }
  State empty_state() const { return {AlignedVector<T>(to_size(channels()))}; }
  /// The gradient of a state that has no part in the loss.
  StateGradient empty_state_gradient() const { return empty_state(); }
  /// Puts a state back to the empty context. It does not allocate.
  void reset(State& state) const noexcept { std::fill(state.x.begin(), state.x.end(), T(0)); }
  /// The numbers of scratch that a token needs.
  Index scratch_size() const noexcept {
    detail::CountedRows<T> count{1};
    (void)rows(false, count);
    return count.numbers + key_.scratch_size();
  }

  /// The numbers of scratch that `backward` needs for so many tokens.
  Index backward_scratch_size(Index tokens) const noexcept {
    detail::CountedRows<T> count{tokens};
    (void)rows(true, count);
    (void)gradient_rows(count);
    return count.numbers + tokens * key_.backward_scratch_size();
  }

  /// Adds to dx and to the gradients of the weights what reaches them, and takes those of the states back, from the tokens'
  /// last to their first. It goes forward through all tokens of the call once more. Sequences that are cut into calls hand
  /// dstates from one to the one for the tokens before.
  ///   Error: 2e-5 of the largest number of each gradient in float, 1e-12 in double, for layers of natural scale.
  ///   Cost:  three times that of forward.
  ///   The bits depend neither on the executor nor on what is wanted. It allocates nothing, and throws what the executor
  ///   throws.
  /// @param scratch  has backward_scratch_size(tokens) numbers
  template <Executor E = Serial> void backward(BackwardCall const& call, Scratch<T>& scratch, E&& executor = {}) const {
    [[maybe_unused]] Index const tokens = call.x.rows(), c = channels();
    AVIARY_ASSERT(call.x.columns() == c && call.dy.columns() == c && call.dx.columns() == c);
    AVIARY_ASSERT(call.dy.rows() == tokens && call.dx.rows() == tokens && call.states.rows() == tokens);
    Weights const& w = call.weights;
    Gradients const& dw = call.dweights;
    typename Scratch<T>::Frame const frame(scratch);
    auto const lend = [&](Index columns) { return scratch.rows(tokens, columns); };
    Rows const m = rows(true, lend);
    GradientRows const d = gradient_rows(lend);
    pass(call.x, call.states, m, scratch, executor);
    for (MatView<T> const& to : {d.inner, d.before}) detail::fill_rows(to, T(0));

    if (receptance_) {
      value_(m.inner, d.r, executor);
      detail::transform_rows(
          d.r, [](auto const& v, auto const& r, auto const& dy) { return sigmoid_gradient(r, dy * v); }, d.r, m.r,
          call.dy);
      receptance_->backward(w.receptance, call.x, m.before, d.r, call.dx, d.before, {dw.x_r, dw.receptance}, scratch,
                            executor);
      detail::transform_rows(
          d.r, [](auto const& r, auto const& dy) { return dy * sigmoid(r); }, m.r, call.dy);
    }
    MatView<T const> const dvalue = receptance_ ? MatView<T const>(d.r) : call.dy;
    add_weight_gradient<T>(dvalue, m.inner, dw.value, executor);
    add_input_gradient<T>(w.value, WeightLayout::out_in, dvalue, d.inner, executor);
    detail::transform_rows(
        d.inner, [](auto const& k, auto const& dk) { return squared_relu_gradient(k, dk); }, m.key, d.inner);
    key_.backward(w.key, call.x, m.before, d.inner, call.dx, d.before, {dw.x_k, dw.key}, scratch, executor);
    detail::shift_rows_backward<T>(d.before, call.states, call.dx, call.dstates);
  }

 private:
  friend detail::SequenceLayer<ChannelMix, T>;

  /// What tokens become on their way. key and inner are the same memory, unless backward needs both.
  struct Rows {
    MatView<T> key, inner;  // (F): W_k x, and relu of it, squared
    MatView<T> before, r;   // (C)
  };
  template <class Take> Rows rows(bool keeps, Take&& take) const noexcept {
    MatView<T> const key = take(key_.out()), inner = keeps ? take(key_.out()) : key, before = take(channels());
    return {key, inner, before, take(receptance_ ? channels() : 0)};
  }
  /// Gradients under the names of Rows; before that, r has the outputs of W_v.
  struct GradientRows {
    MatView<T> inner;      // (F)
    MatView<T> before, r;  // (C)
  };
  template <class Take> GradientRows gradient_rows(Take&& take) const noexcept {
    MatView<T> const inner = take(key_.out()), before = take(channels());
    return {inner, before, take(receptance_ ? channels() : 0)};
  }

  template <class E>
  void stretch(MatView<T const> x, Packed<State> const& sequences, MatView<T> y, Scratch<T>& scratch,
               E& executor) const {
    Rows const m = rows(false, [&](Index columns) { return scratch.rows(x.rows(), columns); });
    pass(x, sequences, m, scratch, executor);
    value_(m.inner, y, executor);
    if (receptance_)
      detail::transform_rows(
          y, [](auto const& v, auto const& g) { return v * sigmoid(g); }, y, m.r);
  }

  /// All but W_v and what follows.
  template <class States, class E>
  void pass(MatView<T const> x, States const& sequences, Rows const& m, Scratch<T>& scratch, E& executor) const {
    detail::shift_rows(x, sequences, m.before);
    key_(x, m.before, m.key, scratch, executor);
    detail::transform_rows(
        m.inner, [](auto const& k) { return squared_relu(k); }, m.key);
    if (receptance_) (*receptance_)(x, m.before, m.r, scratch, executor);
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
