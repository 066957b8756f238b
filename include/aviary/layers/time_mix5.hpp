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
  using typename Base::StateGradient;
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
    typename As::Table first_state = As::no_table();     ///< (H N, N), rows of (head, value): a trained empty context
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
    detail::CountedRows<T> count{1};
    (void)rows(false, count);
    return count.numbers + key_.scratch_size();
  }

  using BackwardCall = detail::LayerBackwardCall<TimeMix>;

  /// The numbers of scratch that `backward` needs for so many tokens in so many sequences: 8 A + 4 C a token, or 7 A without
  /// a gate, and what the memory's backward needs for as many tasks at once as `concurrency` says. With less room for these
  /// it has fewer.
  /// @param between  numbers that are free at backward's `between`, a row of C for each token among them
  Index backward_scratch_size(Index tokens, Index sequences = 1, Index concurrency = 1,
                              Index between = 0) const noexcept {
    detail::CountedRows<T> count{tokens};
    Rows const kept = rows(true, count);
    (void)gradient_rows(kept, count);
    Index const constants = padded<T>(static_cast<Index>(log_w_.size()));
    return count.numbers + 2 * constants +
           std::max({tokens * key_.backward_scratch_size(), between,
                     this->backward_room(inputs(kept), tokens, sequences, concurrency)});
  }

  /// Adds to dx and to the gradients of the weights what reaches them, and takes those of the states back, from the tokens'
  /// last to their first. It goes forward through all tokens of the call once more. Sequences that are cut into calls hand
  /// dstates from one to the one for the tokens before. For first_state see reset_backward().
  ///   Cost:  that of forward, twice as much for matrices, and that of Wkv5::backward.
  ///   The bits depend neither on the executor nor on what is wanted. It allocates nothing, and throws what the executor
  ///   throws.
  /// @param tape  of make_tape() for so many tokens and sequences     @param scratch  has backward_scratch_size(...) numbers
  /// @param between  is called once with y (tokens, C), when the layer has gone forward. Until then call.dy is not read
  template <Executor E = Serial, class Between = detail::NothingBetween>
  void backward(BackwardCall const& call, typename Base::Tape& tape, Scratch<T>& scratch, E&& executor = {},
                Between&& between = {}) const {
    Index const tokens = call.x.rows();
    AVIARY_ASSERT(call.x.columns() == this->channels() && call.dy.columns() == this->channels());
    AVIARY_ASSERT(call.dx.columns() == this->channels() && call.dx.rows() == tokens);
    AVIARY_ASSERT(call.dy.rows() == tokens && call.states.rows() == tokens);
    if (tokens == 0) return;
    typename Scratch<T>::Frame const frame(scratch);
    auto const lend = [&](Index columns) { return scratch.rows(tokens, columns); };
    Rows const m = rows(true, lend);
    GradientRows const g = gradient_rows(m, lend);
    auto const x = inputs(m);
    detail::MemoryPath<Memory> const memory{x, call.states, this->heads(), tape, {nullptr, 0, 0}};
    pass(
        call.x, call.states, m, [&](MatView<T> y) { memory.forward(y, executor); }, scratch, executor);
    detail::go_between(
        scratch, tokens, this->channels(), [&](MatView<T> y) { this->finish(m.gated, y, executor); }, between);

    this->finish_backward(call.weights, m.gated, call.dy, g.read, call.dweights, executor);
    pull_gate(m, g);
    this->normalize_backward(m.read, g.read, g.read, call.dweights, scratch);
    pull_memory(memory, call, g, scratch, executor);
    pull_shifted(call, m, g, scratch, executor);
  }

 private:
  friend detail::SequenceLayer<TimeMix, T>;

  /// What tokens become on their way. Rows of one line after another may be the same memory, unless backward needs them all.
  struct Rows {
    MatView<T> r, k, v, g;           // (A): projections
    MatView<T> read, normal, gated;  // (A): what the memory reads, after the norm, after the gate
    MatView<T> before;               // (C)
  };
  template <class Take> Rows rows(bool keeps, Take&& take) const noexcept {
    Index const inner = this->inner_channels();
    auto const like = [&](MatView<T> other, bool own) { return keeps && own ? take(inner) : other; };
    MatView<T> const r = take(inner), k = take(inner), v = take(inner), read = take(inner);
    MatView<T> const g = like(r, true), normal = like(read, true), gated = like(normal, gate_.has_value());
    return {r, k, v, g, read, normal, gated, take(this->channels())};
  }
  typename Memory::Inputs inputs(Rows const& m) const noexcept {
    return {.r = this->source(m.r),
            .log_w = per_head<HeadSource>(log_w_.data()),
            .k = this->source(m.k),
            .v = this->source(m.v),
            .u = per_head<HeadSource>(u_.data())};
  }

  template <class E>
  void stretch(MatView<T const> x, Packed<State> const& sequences, MatView<T> y, Scratch<T>& scratch,
               E& executor) const {
    Rows const m = rows(false, [&](Index columns) { return scratch.rows(x.rows(), columns); });
    pass(
        x, sequences, m, [&](MatView<T> to) { this->read_memory(inputs(m), sequences, to, executor); }, scratch,
        executor);
    this->finish(m.gated, y, executor);
  }

  /// All but the output matrix; read(y) is what the memory does.
  template <class States, class Read, class E>
  void pass(MatView<T const> x, States const& sequences, Rows const& m, Read&& read, Scratch<T>& scratch,
            E& executor) const {
    detail::shift_rows(x, sequences, m.before);
    receptance_(x, m.before, m.r, scratch, executor);
    key_(x, m.before, m.k, scratch, executor);
    value_(x, m.before, m.v, scratch, executor);
    read(m.read);
    this->normalize(m.read, m.normal);
    if (!gate_) return;
    (*gate_)(x, m.before, m.g, scratch, executor);
    detail::transform_rows(
        m.gated, [](auto const& e, auto const& g) { return e * silu(g); }, m.normal, m.g);
  }

  /// The gradients of rows under the names of Rows, some in place of rows that are used up before.
  struct GradientRows {
    MatView<T> read;        // (A): at first that of what is gated
    MatView<T> r, k, v, g;  // (A)
    MatView<T> before;      // (C)
  };
  template <class Take> GradientRows gradient_rows(Rows const& m, Take&& take) const noexcept {
    return {.read = take(this->inner_channels()),
            .r = m.normal,
            .k = m.read,
            .v = m.g,
            .g = m.gated,
            .before = take(this->channels())};
  }

  /// Of g; what reaches what is gated becomes what reaches normal.
  void pull_gate(Rows const& m, GradientRows const& d) const noexcept {
    if (!gate_) return;
    detail::transform_rows(
        d.g, [](auto const& dy, auto const& e, auto const& g) { return silu_gradient(g, dy * e); }, d.read, m.normal,
        m.g);
    detail::transform_rows(
        d.read, [](auto const& dy, auto const& g) { return dy * silu(g); }, d.read, m.g);
  }

  /// From what reaches what is read to r, k, v, decays, bonuses and states.
  template <class E>
  void pull_memory(detail::MemoryPath<Memory> const& memory, BackwardCall const& call, GradientRows const& d,
                   Scratch<T>& scratch, E& executor) const {
    typename Scratch<T>::Frame const frame(scratch);
    Index const heads = this->heads(), constants = static_cast<Index>(log_w_.size());
    MatView<T> const dlog_w = scratch.rows(1, constants), du = scratch.rows(1, constants);
    auto const rows_of_heads = [&](auto* numbers) { return MatView(numbers, heads, constants / heads); };
    memory.backward(d.read,
                    {.r = detail::sink_of<Size>(d.r, heads),
                     .log_w = per_head<HeadSink>(dlog_w.data()),
                     .k = detail::sink_of<Size>(d.k, heads),
                     .v = detail::sink_of<Size>(d.v, heads),
                     .u = per_head<HeadSink>(du.data())},
                    call.dstates, scratch, executor, [&] {
                      MatView<T> const ddecay = call.dweights.time_decay, dbonus = call.dweights.u;
                      detail::transform_rows(
                          ddecay,
                          [](auto const& sum, auto const& dy, auto const& y) {
                            return sum + log_w_of_exponential_gradient_of_value(y, dy);
                          },
                          ddecay, rows_of_heads(dlog_w.data()), rows_of_heads(log_w_.data()));
                      detail::add_rows<T>(dbonus, rows_of_heads(du.data()));
                    });
  }

  /// From the projections of the shifted rows to x and the states' x.
  template <class E>
  void pull_shifted(BackwardCall const& call, Rows const& m, GradientRows const& d, Scratch<T>& scratch,
                    E& executor) const {
    Weights const& w = call.weights;
    Gradients const& dw = call.dweights;
    detail::fill_rows(d.before, T(0));
    auto const through = [&](ShiftedLinear<T> const& map, WeightMatrix const& weight, MatView<T const> dy,
                             typename ShiftedLinear<T>::Gradients const& dmap) {
      map.backward(weight, call.x, m.before, dy, call.dx, d.before, dmap, scratch, executor);
    };
    through(receptance_, w.receptance, d.r, {dw.mix_r, dw.receptance});
    through(key_, w.key, d.k, {dw.mix_k, dw.key});
    through(value_, w.value, d.v, {dw.mix_v, dw.value});
    if (gate_) through(*gate_, w.gate, d.g, {dw.mix_g, dw.gate});
    detail::shift_rows_backward<T>(d.before, call.states, call.dx, call.dstates);
  }

  /// Numbers of each head, N or one, as a HeadSource or HeadSink.
  template <template <Index> class Of, class Element> auto per_head(Element* numbers) const noexcept {
    if constexpr (decay == Axis::head_key)
      return Of<Size>(numbers, this->heads(), this->head_size());
    else
      return Of<1>(numbers, this->heads());
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
    Base::expect_shapes(expect, w, c, h, n);
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
