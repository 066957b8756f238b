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
  using typename Base::StateGradient;
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
    typename As::Table first_state = As::no_table();     ///< (H N, N), rows of (head, value): a trained empty context
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
    detail::CountedRows<T> count{1};
    (void)rows(false, count);
    return count.numbers;
  }

  using BackwardCall = detail::LayerBackwardCall<TimeMix>;

  /// The numbers of scratch that `backward` needs for so many tokens in so many sequences: some 24 A + 4 C a token, and what
  /// the memory's backward needs for as many tasks at once as `concurrency` says. With less room for these it has fewer.
  /// @param between  numbers that are free at backward's `between`, a row of C for each token among them
  Index backward_scratch_size(Index tokens, Index sequences = 1, Index concurrency = 1,
                              Index between = 0) const noexcept {
    detail::CountedRows<T> count{tokens};
    Rows const kept = rows(true, count);
    (void)gradient_rows(count);
    Index const lora = std::max({decay_.scratch_size(), rate_.scratch_size(), gate_.scratch_size(),
                                 value_residual_ ? value_residual_->scratch_size() : 0});
    return count.numbers +
           std::max({tokens * lora, between, this->backward_room(inputs(kept), tokens, sequences, concurrency)});
  }

  /// Adds to dx and to the gradients of the weights what reaches them, and takes those of the states back, from the tokens'
  /// last to their first. It goes forward through all tokens of the call once more. Sequences that are cut into calls hand
  /// dstates from one to the one for the tokens before. For first_state see reset_backward().
  ///   Error: 2e-5 of the largest number of each gradient in float, 1e-12 in double, for layers of natural scale.
  ///   Cost:  that of forward, twice as much for matrices, and that of Wkv7::backward.
  ///   The bits depend neither on the executor nor on what is wanted. It allocates nothing, and throws what the executor
  ///   throws.
  /// @param tape  of make_tape() for so many tokens and sequences     @param scratch  has backward_scratch_size(...) numbers
  /// @param v_first  (tokens, A): what forward wrote in the first layer
  /// @param dv_first  (tokens, A): the other layers add what reaches v_first; the first one, which comes last, reads it
  /// @param between  is called once with y (tokens, C), when the layer has gone forward. Until then call.dy is not read
  template <Executor E = Serial, class Between = detail::NothingBetween>
  void backward(BackwardCall const& call, typename Base::Tape& tape, Scratch<T>& scratch, MatView<T> v_first,
                MatView<T> dv_first, E&& executor = {}, Between&& between = {}) const {
    [[maybe_unused]] Index const tokens = call.x.rows(), c = this->channels(), inner = this->inner_channels();
    AVIARY_ASSERT(call.x.columns() == c && call.dy.columns() == c && call.dx.columns() == c);
    AVIARY_ASSERT(call.dy.rows() == tokens && call.dx.rows() == tokens && call.states.rows() == tokens);
    AVIARY_ASSERT(v_first.rows() == tokens && dv_first.rows() == tokens);
    AVIARY_ASSERT(v_first.columns() == inner && dv_first.columns() == inner);
    if (tokens == 0) return;
    typename Scratch<T>::Frame const frame(scratch);
    auto const lend = [&](Index columns) { return scratch.rows(tokens, columns); };
    Rows const m = rows(true, lend);
    GradientRows const g = gradient_rows(lend);
    auto const x = inputs(m);
    detail::MemoryPath<Memory> const memory{x, call.states, this->heads(), tape, g.readings};
    pass(
        call.x, call.states, v_first, m, [&](MatView<T> y) { memory.forward(y, executor); }, executor);
    detail::go_between(
        scratch, tokens, this->channels(), [&](MatView<T> y) { this->finish(m.out, y, executor); }, between);

    this->finish_backward(call.weights, m.out, call.dy, g.out, call.dweights, executor);
    pull_gate(m, g);
    this->normalize_backward(m.read, g.out, g.read, call.dweights, scratch);
    memory.backward(g.read,
                    {.r = this->sink(g.r),
                     .log_w = this->sink(g.log_w),
                     .k = this->sink(g.k),
                     .v = this->sink(g.v),
                     .kappa_hat = this->sink(g.kappa_hat),
                     .a = this->sink(g.a)},
                    call.dstates, scratch, executor, [] {});
    pull_bonus(m, g, call.dweights);
    pull_keys(m, g, call.dweights);
    pull_values(m, g, v_first, dv_first, call.dweights);
    pull_shifted(call, m, g, scratch, executor);
  }

 private:
  friend detail::SequenceLayer<TimeMix, T>;

  /// What tokens become on their way. Rows of one line after another may be the same memory, unless backward needs them all.
  struct Rows {
    MatView<T> before, shifted;                         // (C)
    MatView<T> hidden_w, hidden_a, hidden_v, hidden_g;  // (D): inside of low-rank maps
    MatView<T> r, decay, raw_k, raw_v, residual;        // (A): projections
    MatView<T> log_w, k, v, kappa_hat, a, g;            // (A): what the memory takes, and the gate
    MatView<T> read, normal, out;                       // (A): what it reads, after the norm, after bonus and gate
  };
  template <class Take> Rows rows(bool keeps, Take&& take) const noexcept {
    Index const c = this->channels(), inner = this->inner_channels();
    Index const rank_v = value_residual_ ? value_residual_->rank() : 0;
    auto const like = [&](MatView<T> other, bool own) { return keeps && own ? take(inner) : other; };
    MatView<T> const r = take(inner), log_w = take(inner), k = take(inner), v = take(inner), kappa_hat = take(inner);
    MatView<T> const a = take(inner), g = take(inner), read = take(inner), shifted = take(c), before = take(c);
    MatView<T> const any = take(keeps ? 0 : std::max({decay_.rank(), rate_.rank(), rank_v, gate_.rank()}));
    auto const hidden = [&](Index rank) { return keeps ? take(rank) : detail::columns_of(any, 0, rank); };
    bool const mixes = value_residual_.has_value();
    MatView<T> const normal = like(read, true);
    return {.before = before,
            .shifted = shifted,
            .hidden_w = hidden(decay_.rank()),
            .hidden_a = hidden(rate_.rank()),
            .hidden_v = hidden(rank_v),
            .hidden_g = hidden(gate_.rank()),
            .r = r,
            .decay = like(log_w, true),
            .raw_k = like(k, true),
            .raw_v = like(v, mixes),
            .residual = like(g, mixes),
            .log_w = log_w,
            .k = k,
            .v = v,
            .kappa_hat = kappa_hat,
            .a = a,
            .g = g,
            .read = read,
            .normal = normal,
            .out = like(normal, true)};
  }
  typename Memory::Inputs inputs(Rows const& m) const noexcept {
    return {.r = this->source(m.r),
            .log_w = this->source(m.log_w),
            .k = this->source(m.k),
            .v = this->source(m.v),
            .kappa_hat = this->source(m.kappa_hat),
            .a = this->source(m.a)};
  }

  template <class E>
  void stretch(MatView<T const> x, Packed<State> const& sequences, MatView<T> y, Scratch<T>& scratch,
               MatView<T> v_first, E& executor) const {
    AVIARY_ASSERT(v_first.columns() == this->inner_channels() && v_first.rows() == x.rows());
    Rows const m = rows(false, [&](Index columns) { return scratch.rows(x.rows(), columns); });
    pass(
        x, sequences, v_first, m, [&](MatView<T> to) { this->read_memory(inputs(m), sequences, to, executor); },
        executor);
    this->finish(m.out, y, executor);
  }

  /// All but the output matrix; read(y) is what the memory does.
  template <class States, class Read, class E>
  void pass(MatView<T const> x, States const& sequences, MatView<T> v_first, Rows const& m, Read&& read,
            E& executor) const {
    detail::shift_rows(x, sequences, m.before);
    auto const shift = [&](TokenShift<T> const& by) {
      by(x, m.before, m.shifted);
      return MatView<T const>(m.shifted);
    };

    receptance_(shift(shift_r_), m.r, executor);
    key_(shift(shift_k_), m.raw_k, executor);
    decay_(shift(shift_w_), activation::tanh, m.hidden_w, m.decay, executor);
    detail::transform_rows(
        m.log_w, [](auto const& w, auto const& w0) { return log_w_of_sigmoid(w0 + w); }, m.decay, w0_);
    rate_(shift(shift_a_), activation::none, m.hidden_a, m.a, executor);
    detail::transform_rows(
        m.a, [](auto const& e, auto const& a0) { return sigmoid(a0 + e); }, m.a, a0_);
    value_(shift(shift_v_), m.raw_v, executor);
    mix_values(m, v_first, executor);
    gate_(shift(shift_g_), activation::sigmoid, m.hidden_g, m.g, executor);
    make_keys(m);

    read(m.read);
    this->normalize(m.read, m.normal);
    add_bonus(m);
  }

  /// Moves v towards that of the first layer, from the shifted rows of v.
  template <class E> void mix_values(Rows const& m, MatView<T> v_first, E& executor) const {
    if (!value_residual_) return detail::transform_rows(v_first, activation::none, m.v);
    (*value_residual_)(m.shifted, activation::none, m.hidden_v, m.residual, executor);
    detail::transform_rows(
        m.v,
        [](auto const& e, auto const& first, auto const& w, auto const& v0) {
          return simd::Pack<std::remove_cvref_t<decltype(e)>>::fma(first - e, sigmoid(v0 + w), e);
        },
        m.raw_v, v_first, m.residual, v0_);
  }

  /// Makes the removal key from k, then scales k by the learning rate.
  void make_keys(Rows const& m) const noexcept {
    detail::transform_rows(
        m.kappa_hat, [](auto const& e, auto const& k_k) { return e * k_k; }, m.raw_k, k_k_);
    normalize_heads(m.kappa_hat, this->head_size());
    detail::transform_rows(
        m.k,
        [](auto const& e, auto const& rate, auto const& k_a) {
          using P = std::remove_cvref_t<decltype(e)>;
          return e * simd::Pack<P>::fma(rate - P(1), k_a, P(1));
        },
        m.raw_k, m.a, k_a_);
  }

  /// The factor of v in a head that begins at number `at` of row t: r . (k*r_k).
  T bonus(Rows const& m, Index t, Index at) const noexcept {
    return simd::sum(
        this->head_size(), [](auto const& e, auto const& f, auto const& w) { return e * f * w; }, &m.r(t, at),
        &m.k(t, at), r_k_.data() + at);
  }

  /// out = (normal + (r . (k*r_k)) v) * g, the product per head.
  void add_bonus(Rows const& m) const noexcept {
    Index const size = this->head_size();
    for (Index t = 0; t < m.out.rows(); ++t)
      for (Index at = 0; at < m.out.columns(); at += size)
        simd::transform(
            size, &m.out(t, at),
            [bonus = bonus(m, t, at)](auto const& e, auto const& f, auto const& gate) {
              using P = std::remove_cvref_t<decltype(e)>;
              return simd::Pack<P>::fma(P(bonus), f, e) * gate;
            },
            &m.normal(t, at), &m.v(t, at), &m.g(t, at));
  }

  /// The gradients of rows under the names of Rows; those of k and v are of what the memory takes, and become those of raw_k
  /// and raw_v.
  struct GradientRows {
    MatView<T> out, read, r, log_w, k, v, kappa_hat, a, g, residual;  // (A)
    MatView<T> readings;                                              // (A): what the memory keeps
    MatView<T> shifted, before;                                       // (C)
  };
  template <class Take> GradientRows gradient_rows(Take&& take) const noexcept {
    Index const c = this->channels(), inner = this->inner_channels();
    MatView<T> const out = take(inner), read = take(inner);
    return {.out = out,
            .read = read,
            .r = take(inner),
            .log_w = take(inner),
            .k = take(inner),
            .v = take(inner),
            .kappa_hat = take(inner),
            .a = take(inner),
            .g = take(inner),
            .residual = read,  // that of what the memory reads is used up by then
            .readings = take(inner),
            .shifted = take(c),
            .before = take(c)};
  }

  /// Of g; what reaches out becomes what reaches normal.
  void pull_gate(Rows const& m, GradientRows const& d) const noexcept {
    Index const size = this->head_size();
    for (Index t = 0; t < m.out.rows(); ++t)
      for (Index at = 0; at < m.out.columns(); at += size)
        simd::transform(
            size, &d.g(t, at),
            [bonus = bonus(m, t, at)](auto const& dy, auto const& e, auto const& f) {
              using P = std::remove_cvref_t<decltype(e)>;
              return simd::Pack<P>::fma(P(bonus), f, e) * dy;
            },
            &d.out(t, at), &m.normal(t, at), &m.v(t, at));
    detail::transform_rows(
        d.out, [](auto const& dy, auto const& gate) { return dy * gate; }, d.out, m.g);
  }

  /// Adds what reaches r, k, v and r_k by way of the bonus.
  void pull_bonus(Rows const& m, GradientRows const& d, Gradients const& dweights) const noexcept {
    Index const size = this->head_size();
    for (Index t = 0; t < m.out.rows(); ++t)
      for (Index at = 0; at < m.out.columns(); at += size) {
        T const pull = simd::sum(
            size, [](auto const& dy, auto const& e) { return dy * e; }, &d.out(t, at), &m.v(t, at));
        auto const add = [size](T* to, T by, T const* x, T const* y) {
          simd::transform(
              size, to,
              [by](auto const& sum, auto const& e, auto const& f) {
                using P = std::remove_cvref_t<decltype(e)>;
                return simd::Pack<P>::fma(P(by) * e, f, sum);
              },
              to, x, y);
        };
        T const* const r_k = r_k_.data() + at;
        add(&d.r(t, at), pull, &m.k(t, at), r_k);
        add(&d.k(t, at), pull, &m.r(t, at), r_k);
        if (dweights.r_k.wanted()) add(dweights.r_k[at / size].data(), pull, &m.r(t, at), &m.k(t, at));
        simd::transform(
            size, &d.v(t, at),
            [bonus = bonus(m, t, at)](auto const& sum, auto const& e) {
              using P = std::remove_cvref_t<decltype(e)>;
              return simd::Pack<P>::fma(P(bonus), e, sum);
            },
            &d.v(t, at), &d.out(t, at));
      }
  }

  /// Back through make_keys(), to raw_k and a. Uses up kappa_hat.
  void pull_keys(Rows const& m, GradientRows const& d, Gradients const& dweights) const noexcept {
    auto const product = [](auto const& e, auto const& f) { return e * f; };
    detail::add_sum_of_rows<T>(
        dweights.k_a,
        [](auto const& dy, auto const& e, auto const& rate) {
          return dy * e * (rate - std::remove_cvref_t<decltype(e)>(1));
        },
        d.k, m.raw_k, m.a);
    detail::transform_rows(
        d.a,
        [](auto const& sum, auto const& dy, auto const& e, auto const& k_a) {
          return simd::Pack<std::remove_cvref_t<decltype(e)>>::fma(dy * e, k_a, sum);
        },
        d.a, d.k, m.raw_k, k_a_);
    detail::transform_rows(
        d.k,
        [](auto const& dy, auto const& rate, auto const& k_a) {
          using P = std::remove_cvref_t<decltype(dy)>;
          return dy * simd::Pack<P>::fma(rate - P(1), k_a, P(1));
        },
        d.k, m.a, k_a_);
    detail::transform_rows(m.kappa_hat, product, m.raw_k, k_k_);
    normalize_heads_gradient<T>(m.kappa_hat, this->head_size(), d.kappa_hat, d.kappa_hat);
    detail::add_sum_of_rows<T>(dweights.k_k, product, d.kappa_hat, m.raw_k);
    detail::transform_rows(
        d.k,
        [](auto const& sum, auto const& dy, auto const& k_k) {
          return simd::Pack<std::remove_cvref_t<decltype(dy)>>::fma(dy, k_k, sum);
        },
        d.k, d.kappa_hat, k_k_);
  }

  /// Back through mix_values(), to raw_v, residual and v_first.
  void pull_values(Rows const& m, GradientRows const& d, MatView<T const> v_first, MatView<T> dv_first,
                   Gradients const& dweights) const noexcept {
    if (!value_residual_) return detail::add_rows<T>(d.v, dv_first);
    detail::transform_rows(
        d.residual,
        [](auto const& dy, auto const& e, auto const& first, auto const& w, auto const& v0) {
          return sigmoid_gradient(v0 + w, dy * (first - e));
        },
        d.v, m.raw_v, v_first, m.residual, v0_);
    detail::add_sum_of_rows<T>(dweights.v0, d.residual);
    detail::transform_rows(
        dv_first,
        [](auto const& sum, auto const& dy, auto const& w, auto const& v0) {
          return simd::Pack<std::remove_cvref_t<decltype(dy)>>::fma(dy, sigmoid(v0 + w), sum);
        },
        dv_first, d.v, m.residual, v0_);
    detail::transform_rows(
        d.v, [](auto const& dy, auto const& w, auto const& v0) { return dy * sigmoid(-(v0 + w)); }, d.v, m.residual,
        v0_);
  }

  /// From the projections of the shifted rows to these, and to x and the states' x.
  template <class E>
  void pull_shifted(BackwardCall const& call, Rows const& m, GradientRows const& d, Scratch<T>& scratch,
                    E& executor) const {
    Weights const& w = call.weights;
    Gradients const& dw = call.dweights;
    detail::fill_rows(d.before, T(0));
    auto const through = [&](TokenShift<T> const& shift, VecSink<T> dshares, auto&& maps) {
      shift(call.x, m.before, m.shifted);
      detail::fill_rows(d.shifted, T(0));
      maps();
      shift.backward(call.x, m.before, d.shifted, call.dx, d.before, dshares);
    };
    auto const linear = [&](WeightMatrix const& weight, MatView<T const> dy, MatSink<T> dweight) {
      add_weight_gradient<T>(dy, m.shifted, dweight, executor);
      add_input_gradient<T>(weight, WeightLayout::out_in, dy, d.shifted, executor);
    };
    auto const low_rank = [&](LowRank<T> const& map, WeightMatrix const& first, WeightMatrix const& second,
                              MatView<T const> hidden, auto&& pull, MatView<T const> dy, MatSink<T> dfirst,
                              MatSink<T> dsecond) {
      map.backward(first, second, m.shifted, hidden, pull, dy, d.shifted, {dfirst, dsecond}, scratch, executor);
    };
    auto const none = [](auto const&, auto const& dh) { return dh; };

    through(shift_r_, dw.x_r, [&] { linear(w.receptance, d.r, dw.receptance); });
    through(shift_k_, dw.x_k, [&] { linear(w.key, d.k, dw.key); });
    through(shift_v_, dw.x_v, [&] {
      linear(w.value, d.v, dw.value);
      if (value_residual_) low_rank(*value_residual_, w.v1, w.v2, m.hidden_v, none, d.residual, dw.v1, dw.v2);
    });
    through(shift_w_, dw.x_w, [&] {
      detail::transform_rows(
          d.log_w, [](auto const& dy, auto const& e, auto const& w0) { return log_w_of_sigmoid_gradient(w0 + e, dy); },
          d.log_w, m.decay, w0_);
      detail::add_sum_of_rows<T>(dw.w0, d.log_w);
      low_rank(decay_, w.w1, w.w2, m.hidden_w, detail::pull_tanh, d.log_w, dw.w1, dw.w2);
    });
    through(shift_a_, dw.x_a, [&] {
      detail::transform_rows(
          d.a, [](auto const& dy, auto const& a) { return sigmoid_gradient_of_value(a, dy); }, d.a, m.a);
      detail::add_sum_of_rows<T>(dw.a0, d.a);
      low_rank(rate_, w.a1, w.a2, m.hidden_a, none, d.a, dw.a1, dw.a2);
    });
    through(shift_g_, dw.x_g, [&] {
      auto const pull = [](auto const& h, auto const& dh) { return sigmoid_gradient_of_value(h, dh); };
      low_rank(gate_, w.g1, w.g2, m.hidden_g, pull, d.g, dw.g1, dw.g2);
    });
    detail::shift_rows_backward<T>(d.before, call.states, call.dx, call.dstates);
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
    Base::expect_shapes(expect, w, c, h, n);
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
