#pragma once
/// The time mix of RWKV-4 (Peng et al. 2023, arXiv:2305.13048).
///
///   X_c = x' + (x - x') mix_c          x' is the token before; c in r, k, v
///   r = sigmoid(W_r X_r)     k = W_k X_k     v = W_v X_v
///   out = W_o (r * wkv4(k, v))         per channel, log_w = -exp(time_decay)
#include "aviary/core/math.hpp"
#include "aviary/layers/parameters.hpp"
#include "aviary/layers/sequence_layer.hpp"
#include "aviary/layers/shifted_linear.hpp"
#include "aviary/layers/time_mix.hpp"
#include "aviary/wkv4.hpp"

namespace AVIARY_NAMESPACE {

/// C channels in and out, A = Channels within, or as many as the weights say where Channels is dynamic.
template <class Number, Index Channels>
class TimeMix<Wkv4<Number, Channels>> : public detail::SequenceLayer<TimeMix<Wkv4<Number, Channels>>, Number> {
 public:
  using Memory = Wkv4<Number, Channels>;
  using T = Number;
  using State = TimeMixState<Memory>;
  static constexpr bool shares_values = false;

  /// The names of the weights. Linear weights are (out, in).
  template <class As> struct Parameters {
    typename As::Vector mix_r, mix_k, mix_v;             ///< (C) each: shares of the current token (time_mix_r ...)
    typename As::Matrix receptance, key, value, output;  ///< (A, C) three times, (C, A)
    typename As::Vector time_decay;                      ///< (A)
    typename As::Vector u;                               ///< (A): time_first as it is
    typename As::template Setting<WeightFormat> format = WeightFormat::exact;
  };
  using Weights = Parameters<GivenWeights<T>>;       ///< the constructor copies them
  using Gradients = Parameters<WeightGradients<T>>;  ///< added to

  /// @throws std::invalid_argument if shapes do not fit together
  explicit TimeMix(Weights const& w)
      : receptance_(checked(w).mix_r, ShareOf::current, w.receptance, w.format),
        key_(w.mix_k, ShareOf::current, w.key, w.format),
        value_(w.mix_v, ShareOf::current, w.value, w.format),
        output_(w.output, w.format),
        log_w_(detail::copy_of(w.time_decay)),
        u_(detail::copy_of(w.u)) {
    for (T& e : log_w_) e = log_w_of_exponential(e);
  }

  Index channels() const noexcept { return output_.out(); }
  Index inner_channels() const noexcept { return output_.in(); }
  /// The empty context.
  State empty_state() const {
    State state{AlignedVector<T>(to_size(channels())), {}};
    if constexpr (Channels == dynamic)
      state.s.emplace_back(inner_channels());
    else
      state.s.emplace_back();
    return state;
  }
  /// Puts a state back to the empty context. It does not allocate.
  void reset(State& state) const noexcept { state.clear(); }
  /// The numbers of scratch that a token needs.
  Index scratch_size() const noexcept {
    return 4 * padded<T>(inner_channels()) + padded<T>(channels()) + key_.scratch_size();
  }

 private:
  friend detail::SequenceLayer<TimeMix, T>;

  template <class E>
  void stretch(MatView<T const> x, Packed<State> const& sequences, MatView<T> y, Scratch<T>& scratch,
               E& executor) const {
    auto const take = [&] { return scratch.rows(x.rows(), inner_channels()); };
    MatView<T> const r = take(), k = take(), v = take(), read = take();
    MatView<T> const before = scratch.rows(x.rows(), channels());
    detail::shift_rows(x, sequences, before);
    receptance_(x, before, r, scratch, executor);
    key_(x, before, k, scratch, executor);
    value_(x, before, v, scratch, executor);
    detail::run_memory<Memory>({.log_w = {log_w_.data(), 1, inner_channels()},
                                .k = detail::source_of<Channels>(k, 1),
                                .v = detail::source_of<Channels>(v, 1),
                                .u = {u_.data(), 1, inner_channels()}},
                               sequences, 1, detail::sink_of<Channels>(read, 1), executor);
    detail::transform_rows(
        read, [](auto const& e, auto const& gate) { return e * sigmoid(gate); }, read, r);
    output_(read, y, executor);
  }

  static Weights const& checked(Weights const& w) {
    detail::ExpectShapes const expect{"TimeMix<Wkv4>"};
    Index const c = w.mix_r.size(), a = Channels == dynamic ? std::max(w.key.rows(), Index{1}) : Channels;
    expect("mix_k", w.mix_k, c);
    expect("mix_v", w.mix_v, c);
    detail::expect_projections(expect, w, c, a);
    expect("time_decay", w.time_decay, a);
    expect("u", w.u, a);
    return w;
  }

  ShiftedLinear<T> receptance_, key_, value_;
  Linear<T> output_;
  AlignedVector<T> log_w_, u_;
};

}  // namespace AVIARY_NAMESPACE
