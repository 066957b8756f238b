#pragma once
/// Every memory of the matrix family with inputs of the kind that it is used with, and its verbs over them.
#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "aviary/core/aligned.hpp"
#include "aviary/core/convert.hpp"
#include "aviary/delta_rule.hpp"
#include "aviary/dplr.hpp"
#include "aviary/linear_attention.hpp"
#include "aviary/wkv5.hpp"
#include "aviary/wkv6.hpp"
#include "aviary/wkv7.hpp"
#include "support/inputs.hpp"

namespace aviary::bench {

/// What the numbers of a field are. States that stay bounded need keys of unit length where a rule erases, and erasures that
/// take away: `along` is the last unit key of the rule times a rate, `against` that with the other sign.
enum class Draw { normal, decay, head_decay, bonus, unit, along, against, rate };

/// The fields of a rule, in the order of their declaration.
template <class R> inline constexpr auto draws = std::array<Draw, 0>{};
// r, log_w, k, v, u
template <Axis A>
inline constexpr std::array draws<Wkv5Rule<A>>{Draw::normal, Draw::head_decay, Draw::normal, Draw::normal, Draw::bonus};
template <>
inline constexpr std::array draws<Wkv6Rule>{Draw::normal, Draw::decay, Draw::normal, Draw::normal, Draw::bonus};
// r, log_w, k, v
template <> inline constexpr std::array draws<FinchC2Rule>{Draw::normal, Draw::decay, Draw::normal, Draw::normal};
// r, log_w, k, v, kappa_hat, a
template <>
inline constexpr std::array draws<Wkv7Rule>{Draw::normal, Draw::decay, Draw::normal,
                                            Draw::normal, Draw::unit,  Draw::rate};
// q, k, v
template <> inline constexpr std::array draws<LinearAttentionRule>{Draw::normal, Draw::normal, Draw::normal};
// q, k, v, log_w
template <Axis A>
inline constexpr std::array draws<GatedLinearAttentionRule<A>>{Draw::normal, Draw::normal, Draw::normal,
                                                               A == Axis::head_one ? Draw::head_decay : Draw::decay};
// q, k, v, beta
template <> inline constexpr std::array draws<DeltaNetRule>{Draw::normal, Draw::unit, Draw::normal, Draw::rate};
// q, k, v, log_w, beta
template <Axis A>
inline constexpr std::array draws<GatedDeltaRule<A>>{Draw::normal, Draw::unit, Draw::normal, Draw::decay, Draw::rate};
// q, k, v, log_w, b, c
template <>
inline constexpr std::array draws<GatedDeltaNet2Rule>{Draw::normal, Draw::unit, Draw::normal,
                                                      Draw::decay,  Draw::rate, Draw::rate};
// q, k, v, log_w, p, beta
template <>
inline constexpr std::array draws<CombaRule>{Draw::normal, Draw::unit,  Draw::normal,
                                             Draw::decay,  Draw::along, Draw::rate};
// q, log_w, k, v, alpha, beta
template <>
inline constexpr std::array draws<DplrRule>{Draw::normal, Draw::decay, Draw::normal,
                                            Draw::normal, Draw::unit,  Draw::against};
// q, k, v, alpha, beta
template <>
inline constexpr std::array draws<IplrRule>{Draw::normal, Draw::normal, Draw::normal, Draw::unit, Draw::against};

/// A field of every token and head, which becomes whatever the inputs of a rule have in its place.
template <class T> struct SequenceField {
  T const* data;
  Index tokens, heads;
  template <Index N> operator Source<N>() const noexcept { return {data, tokens, heads}; }
  template <Index N> operator HeadSource<N>() const noexcept { return {data, heads}; }
};

/// Where its gradient goes.
template <class T> struct GradientField {
  T* data;
  Index tokens, heads;
  template <Index N> operator Sink<N>() const noexcept { return {data, tokens, heads}; }
  template <Index N> operator HeadSink<N>() const noexcept { return {data, heads}; }
};

/// The same for one token of one head; `row` counts tokens and heads, or heads alone where all tokens share the field.
template <class T> struct TokenField {
  T const* data;
  Index row;
  template <Index N> operator VecView<T const, N>() const noexcept { return {data + row * N, N}; }
  operator Required<T>() const noexcept { return data[row]; }
};

/// Some layers with a state per head each, at first the empty context, and a sequence of inputs that they share, stored
/// as In.
template <class M, Stored In = typename M::T> class Layers {
 public:
  using Memory = M;
  using T = typename M::T;
  using State = typename M::State;
  static constexpr Index size = M::keys;
  static_assert(size != dynamic && size == M::values, "the fields of a head all have one size");

  Layers(Index layers, Index heads, Index tokens)
      : layers_(layers),
        heads_(heads),
        tokens_(tokens),
        fields_(draw()),
        y_(to_size(tokens * heads * size)),
        states_(to_size(layers * heads)) {}

  /// Layers times heads times tokens: what one call of a verb goes through.
  double work() const { return static_cast<double>(layers_ * heads_ * tokens_); }
  double tokens() const { return static_cast<double>(tokens_); }
  double state_bytes() const { return static_cast<double>(states_.size() * sizeof(State)); }

  /// All tokens through every layer, a call for each.
  template <class Executor = Serial> void forward(Executor&& executor = {}) {
    for (Index layer = 0; layer < layers_; ++layer) M::forward(call(layer), executor);
  }
  /// All tokens through every layer, a call for each token and head.
  void steps() requires(std::is_same_v<In, T>) {
    for (Index t = 0; t < tokens_; ++t)
      for (Index layer = 0; layer < layers_; ++layer)
        for (Index h = 0; h < heads_; ++h)
          M::step(states_[to_size(layer * heads_ + h)], token(t, h, all),
                  VecView<T, size>(y_.data() + (t * heads_ + h) * size));
  }
  /// What forward does, in chunks.
  template <Index L> void chunk() {
    scratch_.resize(M::template chunk_workspace<L>());
    for (Index layer = 0; layer < layers_; ++layer) M::template chunk<L>(call(layer), scratch_);
  }
  /// The segment of each head, the outputs of an empty state and what corrects them.
  template <class Executor = Serial> void summarize(Executor&& executor = {}) {
    segments_.resize(to_size(heads_), M::identity_segment());
    scratch_.resize(y_.size());
    corrected_.resize(y_.size());
    M::summarize({.x = inputs(all),
                  .segments = segments_,
                  .y = {y_.data(), tokens_, heads_},
                  .state_weights = {scratch_.data(), tokens_, heads_}},
                 executor);
  }

  /// Corrects the outputs that summarize gave.
  template <class Executor = Serial> void add_initial_state(Executor&& executor = {}) {
    if (segments_.empty()) summarize(executor);
    M::add_initial_state({.state_weights = {scratch_.data(), tokens_, heads_},
                          .y0 = {y_.data(), tokens_, heads_},
                          .y = {corrected_.data(), tokens_, heads_},
                          .states = std::span<State const>(states_)},
                         executor);
  }

  /// What forward does, with a tape for backward, which keeps readings where there are any.
  template <class Executor = Serial> void forward_with_tape(Executor&& executor = {}) {
    typename M::ForwardCall one = call(0);
    make_tape(one.x);
    one.tape = tape();
    M::forward(one, executor);
  }
  /// The gradients of all inputs, from those of the outputs, over the first layer.
  template <class Executor = Serial> void backward(Executor&& executor = {}) {
    if (gradients_.front().empty()) {
      forward_with_tape(executor);
      for (auto& of_field : gradients_) of_field.resize(y_.size());
      scratch_.resize(M::backward_workspace(inputs(all), heads_, {}, 16, executor.concurrency()));
    }
    M::backward({.x = inputs(all),
                 .dy = {y_.data(), tokens_, heads_},
                 .tape = tape(),
                 .dx = gradients(all),
                 .workspace = scratch_},
                executor);
  }
  /// What reaches the states before from the outputs, whose gradients are any numbers.
  template <class Executor = Serial> void pull_outputs(Executor&& executor = {}) {
    if (segments_.empty()) summarize(executor);
    dstates_.resize(to_size(heads_));
    M::pull_outputs(
        {.state_weights = {scratch_.data(), tokens_, heads_}, .dy = {y_.data(), tokens_, heads_}, .dstates = dstates_},
        executor);
  }

  std::vector<State>& states() { return states_; }

 private:
  static constexpr auto kinds = draws<typename M::Rule>;
  static constexpr auto all = std::make_index_sequence<kinds.size()>();
  using Fields = std::array<AlignedVector<In>, kinds.size()>;

  static constexpr bool per_head(Draw kind) { return kind == Draw::head_decay || kind == Draw::bonus; }

  /// n numbers: those that were drawn, again and again.
  static AlignedVector<In> repeated(std::vector<T> const& drawn, Index n) {
    AlignedVector<In> result(to_size(n));
    Index const period = static_cast<Index>(drawn.size());
    for (Index i = 0; i < n; i += period) convert(drawn.data(), result.data() + i, std::min(period, n - i));
    return result;
  }
  /// Drawing takes longer than computing: the inputs repeat after some tokens.
  Fields draw() const {
    Inputs<T> make(1);
    Index const rows = std::min(tokens_, Index{32}) * heads_, n = rows * size;
    std::vector<T> unit;
    auto const times_rates = [&](T sign) {
      auto numbers = unit, rates = make.rates(rows);
      for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] *= sign * rates[i / to_size(size)];
      return numbers;
    };
    auto const drawn = [&](Draw kind) {
      switch (kind) {
        case Draw::decay:
          return make.log_decays(n);
        case Draw::head_decay:
          return make.log_decays(heads_ * size);
        case Draw::bonus:
          return make.normals(heads_ * size);
        case Draw::unit:
          return unit = make.units(rows, size);
        case Draw::along:
          return times_rates(T(1));
        case Draw::against:
          return times_rates(T(-1));
        case Draw::rate:
          return make.rates(n);
        case Draw::normal:
          break;
      }
      return make.normals(n);
    };
    Fields fields;
    for (std::size_t i = 0; i < fields.size(); ++i)
      fields[i] = repeated(drawn(kinds[i]), (per_head(kinds[i]) ? 1 : tokens_) * heads_ * size);
    return fields;
  }

  template <std::size_t... i> typename M::Inputs inputs(std::index_sequence<i...>) const {
    return {SequenceField<In>{fields_[i].data(), tokens_, heads_}...};
  }
  template <std::size_t... i> typename M::Token token(Index t, Index h, std::index_sequence<i...>) const {
    return {TokenField<T>{fields_[i].data(), per_head(kinds[i]) ? h : t * heads_ + h}...};
  }
  template <std::size_t... i> typename M::Gradients gradients(std::index_sequence<i...>) {
    return {GradientField<T>{gradients_[i].data(), tokens_, heads_}...};
  }
  void make_tape(typename M::Inputs const& x) {
    kept_.resize(M::tape_size(x));
    readings_.resize(y_.size());
  }
  typename M::Tape tape() {
    typename M::Tape tape{.states = kept_};
    if constexpr (requires { tape.readings; }) tape.readings = {readings_.data(), tokens_, heads_};
    return tape;
  }
  typename M::ForwardCall call(Index layer) {
    return {.x = inputs(all),
            .y = {y_.data(), tokens_, heads_},
            .states = {states_.data() + layer * heads_, to_size(heads_)}};
  }

  Index layers_, heads_, tokens_;
  Fields fields_;
  AlignedVector<T> y_, corrected_, scratch_, readings_;
  std::array<AlignedVector<T>, kinds.size()> gradients_;
  std::vector<State> states_, kept_;
  std::vector<typename M::Segment> segments_;
  std::vector<typename M::StateGradient> dstates_;
};

}  // namespace aviary::bench
