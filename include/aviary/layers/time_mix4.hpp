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
  using StateGradient = TimeMixStateGradient<Memory>;
  using Tape = TimeMixTape<Memory>;
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
  State empty_state() const { return {AlignedVector<T>(to_size(channels())), memories<typename Memory::State>(1)}; }
  /// The gradient of a state that has no part in the loss.
  StateGradient empty_state_gradient() const {
    return {AlignedVector<T>(to_size(channels())), memories<typename Memory::StateGradient>(1)};
  }
  /// Room for `backward` over this many tokens of this many sequences, and for all smaller calls. It takes the numbers of
  /// (tokens / 16 + 3 sequences) states.
  Tape make_tape(Index tokens, Index sequences = 1) const {
    Index const at_once = std::min(sequences, detail::most_sequences);
    return {memories<typename Memory::State>(at_once),
            memories<typename Memory::State>(tokens / Tape::every + std::min(sequences, tokens)),
            memories<typename Memory::StateGradient>(at_once)};
  }
  /// Puts a state back to the empty context. It does not allocate.
  void reset(State& state) const noexcept { state.clear(); }
  /// The numbers of scratch that a token needs.
  Index scratch_size() const noexcept {
    detail::CountedRows<T> count{1};
    (void)rows(false, count);
    return count.numbers + key_.scratch_size();
  }

  using BackwardCall = detail::LayerBackwardCall<TimeMix>;

  /// The numbers of scratch that `backward` needs for so many tokens in so many sequences: 6 A + 4 C a token, and 87 A for
  /// each of up to 64 sequences, whatever the concurrency.
  /// @param between  numbers that are free at backward's `between`, a row of C for each token among them
  Index backward_scratch_size(Index tokens, Index sequences = 1, Index /*concurrency*/ = 1,
                              Index between = 0) const noexcept {
    detail::CountedRows<T> count{tokens};
    Rows const kept = rows(true, count);
    (void)gradient_rows(kept, count);
    Index const of_each = static_cast<Index>(Memory::backward_workspace(inputs(kept), {}, Tape::every));
    Index const memory = padded<T>(of_each * std::clamp(sequences, Index{1}, detail::most_sequences));
    return count.numbers + 2 * padded<T>(inner_channels()) +
           std::max({memory, between, tokens * key_.backward_scratch_size()});
  }

  /// Adds to dx and to the gradients of the weights what reaches them, and takes those of the states back, from the tokens'
  /// last to their first. It goes forward through all tokens of the call once more. Sequences that are cut into calls hand
  /// dstates from one to the one for the tokens before.
  ///   Cost:  that of forward, twice as much for matrices, and that of Wkv4::backward.
  ///   The bits depend neither on the executor nor on what is wanted. It allocates nothing, and throws what the executor
  ///   throws.
  /// @param tape  of make_tape() for so many tokens and sequences     @param scratch  has backward_scratch_size(...) numbers
  /// @param between  is called once with y (tokens, C), when the layer has gone forward. Until then call.dy is not read
  template <Executor E = Serial, class Between = detail::NothingBetween>
  void backward(BackwardCall const& call, Tape& tape, Scratch<T>& scratch, E&& executor = {},
                Between&& between = {}) const {
    [[maybe_unused]] Index const tokens = call.x.rows(), c = channels();
    AVIARY_ASSERT(call.x.columns() == c && call.dy.columns() == c && call.dx.columns() == c);
    AVIARY_ASSERT(call.dy.rows() == tokens && call.dx.rows() == tokens && call.states.rows() == tokens);
    if (tokens == 0) return;
    typename Scratch<T>::Frame const frame(scratch);
    auto const lend = [&](Index columns) { return scratch.rows(tokens, columns); };
    Rows const m = rows(true, lend);
    GradientRows const g = gradient_rows(m, lend);
    auto const x = inputs(m);
    detail::MemoryPath<Memory> const memory{x, call.states, 1, tape, {nullptr, 0, 0}};
    pass(
        call.x, call.states, m, [&](MatView<T> y) { memory.forward(y, executor); }, scratch, executor);
    detail::go_between(
        scratch, tokens, this->channels(), [&](MatView<T> y) { output_(m.gated, y, executor); }, between);

    pull_output(call, m, g, executor);
    pull_memory(memory, call, g, scratch, executor);
    pull_shifted(call, m, g, scratch, executor);
  }

 private:
  friend detail::SequenceLayer<TimeMix, T>;

  /// Memories of so many sequences, all zero.
  template <class Of> std::vector<Of> memories(Index sequences) const {
    return std::vector<Of>(to_size(sequences), Of{inner_channels()});
  }

  /// What tokens become on their way. What is gated lies where it was read, unless backward needs both.
  struct Rows {
    MatView<T> r, k, v, read, gated;  // (A)
    MatView<T> before;                // (C)
  };
  template <class Take> Rows rows(bool keeps, Take&& take) const noexcept {
    Index const inner = inner_channels();
    MatView<T> const r = take(inner), k = take(inner), v = take(inner), read = take(inner);
    MatView<T> const gated = keeps ? take(inner) : read;
    return {r, k, v, read, gated, take(channels())};
  }
  typename Memory::Inputs inputs(Rows const& m) const noexcept {
    return {.log_w = {log_w_.data(), 1, inner_channels()},
            .k = detail::source_of<Channels>(m.k, 1),
            .v = detail::source_of<Channels>(m.v, 1),
            .u = {u_.data(), 1, inner_channels()}};
  }

  template <class E>
  void stretch(MatView<T const> x, Packed<State> const& sequences, MatView<T> y, Scratch<T>& scratch,
               E& executor) const {
    Rows const m = rows(false, [&](Index columns) { return scratch.rows(x.rows(), columns); });
    auto const read = [&](MatView<T> to) {
      detail::run_memory<Memory>(inputs(m), sequences, 1, detail::sink_of<Channels>(to, 1), executor);
    };
    pass(x, sequences, m, read, scratch, executor);
    output_(m.gated, y, executor);
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
    detail::transform_rows(
        m.gated, [](auto const& e, auto const& gate) { return e * sigmoid(gate); }, m.read, m.r);
  }

  /// The gradients of rows under the names of Rows, some in place of rows that are used up before.
  struct GradientRows {
    MatView<T> read, r, k, v;  // (A)
    MatView<T> before;         // (C)
  };
  template <class Take> GradientRows gradient_rows(Rows const& m, Take&& take) const noexcept {
    return {.read = take(inner_channels()), .r = m.gated, .k = m.read, .v = m.r, .before = take(channels())};
  }

  /// Of the output matrix and the gate, to r and what is read.
  template <class E>
  void pull_output(BackwardCall const& call, Rows const& m, GradientRows const& d, E& executor) const {
    add_weight_gradient<T>(call.dy, m.gated, call.dweights.output, executor);
    detail::fill_rows(d.read, T(0));
    add_input_gradient<T>(call.weights.output, WeightLayout::out_in, call.dy, d.read, executor);
    detail::transform_rows(
        d.r, [](auto const& dy, auto const& e, auto const& r) { return sigmoid_gradient(r, dy * e); }, d.read, m.read,
        m.r);
    detail::transform_rows(
        d.read, [](auto const& dy, auto const& r) { return dy * sigmoid(r); }, d.read, m.r);
  }

  /// From what is read to k, v, decays, bonuses and states.
  template <class E>
  void pull_memory(detail::MemoryPath<Memory> const& memory, BackwardCall const& call, GradientRows const& d,
                   Scratch<T>& scratch, E& executor) const {
    typename Scratch<T>::Frame const frame(scratch);
    Index const inner = inner_channels();
    MatView<T> const dlog_w = scratch.rows(1, inner), du = scratch.rows(1, inner);
    auto const pull = [](auto const& dy, auto const& y) { return log_w_of_exponential_gradient_of_value(y, dy); };
    memory.backward(d.read,
                    {.log_w = {dlog_w.data(), 1, inner},
                     .k = detail::sink_of<Channels>(d.k, 1),
                     .v = detail::sink_of<Channels>(d.v, 1),
                     .u = {du.data(), 1, inner}},
                    call.dstates, scratch, executor, [&] {
                      detail::add_sum_of_rows<T>(call.dweights.time_decay, pull, dlog_w, log_w_);
                      detail::add_sum_of_rows<T>(call.dweights.u, du);
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
    detail::shift_rows_backward<T>(d.before, call.states, call.dx, call.dstates);
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
