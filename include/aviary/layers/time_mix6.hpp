#pragma once
/// The time mix of RWKV-6 "Finch" (Peng et al. 2024, arXiv:2404.05892).
///
///   X_c = x shifted by slice c of a LowRankTokenShift      c in w, k, v, r, g
///   r = W_r X_r     k = W_k X_k     v = W_v X_v     g = silu(W_g X_g)
///   log_w = -exp(time_decay + tanh(X_w w1) w2)
///   out = W_o (GroupNorm(wkv6(r, log_w, k, v)) * g)     per head
#include "aviary/core/math.hpp"
#include "aviary/dense/low_rank.hpp"
#include "aviary/layers/parameters.hpp"
#include "aviary/layers/sequence_layer.hpp"
#include "aviary/layers/shifted_slices.hpp"
#include "aviary/layers/time_mix.hpp"
#include "aviary/wkv6.hpp"

namespace AVIARY_NAMESPACE {

/// C channels in and out, H heads of N numbers, A = H N. N is Size, or read from u where Size is dynamic.
template <class Number, Index Size, Stored S>
class TimeMix<Wkv6<Number, Size, Size, S>>
    : public detail::MatrixTimeMix<Wkv6<Number, Size, Size, S>>,
      public detail::SequenceLayer<TimeMix<Wkv6<Number, Size, Size, S>>, Number> {
  using Base = detail::MatrixTimeMix<Wkv6<Number, Size, Size, S>>;

 public:
  using Memory = Wkv6<Number, Size, Size, S>;
  using T = Number;
  using typename Base::State;
  using typename Base::Tape;
  using Shift = LowRankTokenShift<T, 5>;
  static constexpr bool shares_values = false;

  /// The names of the weights. Linear weights are (out, in), low-rank factors (in, out).
  template <class As> struct Parameters {
    typename Shift::template Parameters<As> shift;             ///< slices w, k, v, r, g
    typename As::Matrix receptance, key, value, gate, output;  ///< (A, C) four times, (C, A)
    typename As::Vector time_decay;                            ///< (A)
    typename As::Matrix w1, w2;                                ///< (C, D), (D, A)
    typename As::Table u;                                      ///< (H, N): time_faaaa
    typename As::Vector ln_x_weight, ln_x_bias;                ///< (A) each
    typename As::Table first_state = As::no_table();  ///< (H N, N), rows of (head, value): a trained empty context
    typename As::template Setting<T> group_norm_eps = T(64e-5);
    typename As::template Setting<WeightFormat> format = WeightFormat::exact;
  };
  using Weights = Parameters<GivenWeights<T>>;       ///< the constructor copies them
  using Gradients = Parameters<WeightGradients<T>>;  ///< added to

  /// @throws std::invalid_argument if shapes do not fit together
  explicit TimeMix(Weights const& w)
      : Base(checked(w), w.u.rows()),
        shift_(w.shift),
        receptance_(w.receptance, w.format),
        key_(w.key, w.format),
        value_(w.value, w.format),
        gate_(w.gate, w.format),
        decay_(w.time_decay, w.w1, w.w2, w.format),
        u_(detail::copy_of(w.u)) {}

  /// The numbers of scratch that a token needs.
  Index scratch_size() const noexcept {
    detail::CountedRows<T> one{1};
    rows(false, one);
    return one.numbers + std::max(shift_.scratch_size(), decay_.scratch_size());
  }

  using BackwardCall = detail::LayerBackwardCall<TimeMix>;

  /// The numbers of scratch that `backward` needs for so many tokens in so many sequences, and for all smaller calls: some
  /// 13 A + 10 C a token, and what the memory's backward needs for as many tasks at once as `concurrency` says. With less
  /// room for these it has fewer.
  /// @param between  numbers that are free at backward's `between`, a row of C for each token among them
  Index backward_scratch_size(Index tokens, Index sequences = 1, Index concurrency = 1,
                              Index between = 0) const noexcept {
    detail::CountedRows<T> all{tokens};
    Rows const m = rows(true, all);
    gradient_rows(all);
    Index const room = std::max({shift_.scratch_size(), shift_.backward_scratch_size(), decay_.scratch_size()});
    return all.numbers + padded<T>(this->inner_channels()) +
           std::max({tokens * room, between, this->backward_room(inputs(m), tokens, sequences, concurrency)});
  }

  /// Adds to dx and to the gradients of the weights what reaches them, and takes those of the states back, from the tokens'
  /// last to their first. It goes forward through all tokens of the call once more. Sequences that are cut into calls hand
  /// dstates from one to the one for the tokens before. For first_state see reset_backward().
  ///   Error: 2e-5 of the largest number of each gradient in float, 1e-12 in double, for layers of natural scale.
  ///   Cost:  that of forward, twice as much for matrices, and that of the memory's backward.
  ///   The bits depend neither on the executor nor on what is wanted. It allocates nothing, and throws what the executor
  ///   throws.
  /// @param tape  of make_tape() for so many tokens and sequences     @param scratch  has backward_scratch_size(...) numbers
  /// @param between  is called once with y (tokens, C), when the layer has gone forward. Until then call.dy is not read
  template <Executor E = Serial, class Between = detail::NothingBetween>
  void backward(BackwardCall const& call, Tape& tape, Scratch<T>& scratch, E&& executor = {},
                Between&& between = {}) const {
    AVIARY_ASSERT(call.x.columns() == this->channels() && call.x.rows() == call.states.rows());
    AVIARY_ASSERT(call.dy.columns() == this->channels() && call.dy.rows() == call.x.rows());
    AVIARY_ASSERT(call.dx.columns() == this->channels() && call.dx.rows() == call.x.rows());
    if (call.x.rows() == 0) return;
    typename Scratch<T>::Frame const frame(scratch);
    Weights const& w = call.weights;
    Gradients const& d = call.dweights;
    auto take = [&](Index columns) { return scratch.rows(call.x.rows(), columns); };
    Rows const m = rows(true, take);
    GradientRows const dm = gradient_rows(take);
    MatView<T> const du(scratch.rows(1, this->inner_channels()).data(), this->heads(), this->head_size());
    detail::fill_rows(dm.slices.before, T(0));

    typename Memory::Inputs const x = inputs(m);
    detail::MemoryPath<Memory> const memory{x, call.states, this->heads(), tape, {nullptr, 0, 0}};
    m.slices.prepare(shift_, call.x, call.states, scratch, executor);
    this->template forward<true>(
        call.x, m, [&] { memory.forward(m.read, executor); }, scratch, executor);
    detail::go_between(
        scratch, call.x.rows(), this->channels(), [&](MatView<T> y) { this->finish(m.gated, y, executor); }, between);

    this->finish_backward(w, m.gated, call.dy, dm.read, d, executor);
    MatView<T> const dgate = m.gated;  // which is not read again
    detail::transform_rows(
        dgate, [](auto const& e, auto const& g, auto const& dy) { return silu_gradient(g, e * dy); }, m.normal, m.gate,
        dm.read);
    detail::transform_rows(
        dm.read, [](auto const& dy, auto const& g) { return dy * silu(g); }, dm.read, m.gate);
    this->normalize_backward(m.read, dm.read, dm.read, d, scratch);
    memory.backward(dm.read,
                    {.r = this->sink(dm.r),
                     .log_w = this->sink(dm.log_w),
                     .k = this->sink(dm.k),
                     .v = this->sink(dm.v),
                     .u = {du.data(), this->heads(), this->head_size()}},
                    call.dstates, scratch, executor, [&] {
                      if (d.u.wanted()) detail::add_rows<T>(d.u, du);
                    });

    detail::ShiftedSlicesBackward<T, 5, E> const to_x{shift_,  w.shift, call.x,  m.slices, dm.slices,
                                                      call.dx, d.shift, scratch, executor};
    to_x.through(slice_w, [&](MatView<T const> slice, MatView<T> dslice) {
      decay_.backward(w.w1, w.w2, slice, m.decay_hidden, m.log_w, dm.log_w, dslice, {d.time_decay, d.w1, d.w2}, scratch,
                      executor);
    });
    to_x.through_linear(slice_k, w.key, dm.k, d.key);
    to_x.through_linear(slice_v, w.value, dm.v, d.value);
    to_x.through_linear(slice_r, w.receptance, dm.r, d.receptance);
    to_x.through_linear(slice_g, w.gate, dgate, d.gate);
    to_x.finish(call.states, call.dstates);
  }

 private:
  friend detail::SequenceLayer<TimeMix, T>;
  enum Slice : Index { slice_w, slice_k, slice_v, slice_r, slice_g };

  /// The rows of a call, (tokens, A) but for slices and decay_hidden (tokens, D). If they are not kept, some lie in others
  /// that are read no more, and decay_hidden is none.
  struct Rows {
    MatView<T> r, log_w, k, v, read, normal, gate, gated, decay_hidden;
    detail::ShiftedSlices<T, 5> slices;
  };
  template <class Take> Rows rows(bool keeps, Take& take) const noexcept {
    Index const a = this->inner_channels();
    MatView<T> const r = take(a), log_w = take(a), k = take(a), v = take(a), read = take(a);
    auto const own = [&](MatView<T> other) { return keeps ? take(a) : other; };
    return {.r = r,
            .log_w = log_w,
            .k = k,
            .v = v,
            .read = read,
            .normal = own(read),
            .gate = own(r),
            .gated = own(read),
            .decay_hidden = take(keeps ? decay_.rank() : 0),
            .slices = detail::ShiftedSlices<T, 5>::of(shift_, keeps, take)};
  }
  /// What reaches rows of the same names.
  struct GradientRows {
    MatView<T> r, log_w, k, v, read;
    detail::ShiftedSliceGradients<T> slices;
  };
  template <class Take> GradientRows gradient_rows(Take& take) const noexcept {
    Index const a = this->inner_channels();
    return {.r = take(a),
            .log_w = take(a),
            .k = take(a),
            .v = take(a),
            .read = take(a),
            .slices = detail::ShiftedSliceGradients<T>::of(shift_, take)};
  }

  typename Memory::Inputs inputs(Rows const& m) const noexcept {
    return {.r = this->source(m.r),
            .log_w = this->source(m.log_w),
            .k = this->source(m.k),
            .v = this->source(m.v),
            .u = {u_.data(), this->heads(), this->head_size()}};
  }

  template <class E>
  void stretch(MatView<T const> x, Packed<State> const& sequences, MatView<T> y, Scratch<T>& scratch,
               E& executor) const {
    auto take = [&](Index columns) { return scratch.rows(x.rows(), columns); };
    Rows const m = rows(false, take);
    m.slices.prepare(shift_, x, sequences, scratch, executor);
    this->template forward<false>(
        x, m, [&] { this->read_memory(inputs(m), sequences, m.read, executor); }, scratch, executor);
    this->finish(m.gated, y, executor);
  }

  /// Everything between the slices' preparation and the output matrix. read_memory computes m.read.
  template <bool keeps, class Read, class E>
  void forward(MatView<T const> x, Rows const& m, Read&& read_memory, Scratch<T>& scratch, E& executor) const {
    auto const shift = [&](Slice slice) { return m.slices.compute(slice, shift_, x, executor); };
    if constexpr (keeps)
      decay_(shift(slice_w), m.decay_hidden, m.log_w, executor);
    else
      decay_(shift(slice_w), m.log_w, scratch, executor);
    receptance_(shift(slice_r), m.r, executor);
    key_(shift(slice_k), m.k, executor);
    value_(shift(slice_v), m.v, executor);
    read_memory();
    this->normalize(m.read, m.normal);
    gate_(shift(slice_g), m.gate, executor);
    detail::transform_rows(
        m.gated, [](auto const& e, auto const& g) { return e * silu(g); }, m.normal, m.gate);
  }

  static Weights const& checked(Weights const& w) {
    detail::ExpectShapes const expect{"TimeMix<Wkv6>"};
    Index const c = w.shift.base.size(), h = w.u.rows(), n = Base::size_or(w.u.columns()), a = h * n;
    expect("u", w.u, std::max(h, Index{1}), std::max(n, Index{1}));
    Base::expect_shapes(expect, w, c, h, n);
    expect("gate", w.gate, a, c);
    expect("time_decay", w.time_decay, a);
    detail::expect_low_rank(expect, "w1", w.w1, c, "w2", w.w2, a);
    return w;
  }

  Shift shift_;
  Linear<T> receptance_, key_, value_, gate_;
  LowRankDecay<T> decay_;
  AlignedVector<T> u_;
};

}  // namespace AVIARY_NAMESPACE
