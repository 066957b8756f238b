#pragma once
/// Gradients of the GOLD layer (see aviary/gold.hpp for its equations): of its input and its state, of embeddings and
/// compressed keys, and of all weights, in blocks like the forward pass.
///
/// Queries are taken in stretches as the scratch allows. A stretch computes its queries again and reads all blocks once, for
/// what its queries have read and for the logarithms of their sums. Then every block of 128 tokens is rebuilt, the attention
/// says what reaches its keys and values, and that goes back through norms, low-rank maps, token shifts and TokenCat to the
/// block's embeddings and compressed keys, before the next block is rebuilt. So nothing in scratch or workspace grows with
/// the cache. As the time mix of a Block the layer takes all queries of a call as one stretch.
///
/// The first token of a block is shifted by the token before, of the block before. What reaches that token by this way goes
/// back through TokenCat on its own, as a row of this block: gradients are linear, so the parts of a token may go back one
/// after the other.
#include <algorithm>
#include <utility>

#include "aviary/cache/attention_backward.hpp"
#include "aviary/dense/gradient.hpp"
#include "aviary/layers/gold.hpp"

namespace AVIARY_NAMESPACE {

/// In the place of a tape, for `backward` of a GOLD layer and of its block: what the layer attends to, and where the
/// gradients of that go. They are added to, so layers that share the caches give their sum.
template <class T, KeyStorage S> struct GoldTape {
  GoldContext<T, S> const& context;  ///< of the call's sequences, with GoldBackward's workspace_size() of workspace
  WeightMatrix expand;               ///< (C, C + R): as the TokenCat was given it
  MatSink<T> de = {};                ///< (n, C): of embeddings, of the tokens of all caches, one sequence after another
  MatSink<T> dc = {};                ///< (n, R): of compressed keys, likewise
  MatSink<T> dexpand = {};           ///< (C, C + R)
};

///     using Backward = GoldBackward<float>;
///     Scratch<float> scratch(64 * Backward::scratch_size(gold)), workspace(Backward::workspace_size(gold, token_cat));
///     Backward::run(gold, {.weights = w, .expand = w_b, .x = x, .state = before, .dy = dy, .dx = dx, .dstate = dstate},
///                   scratch, GoldContext(token_cat, cache, x.rows(), workspace));
///
/// Cost: 7 C multiply-adds for each query and token, where forward has 2; 6 C^2 for each query, where forward has 2 C^2; and
/// about five times what forward spends on each token and stretch, because blocks are rebuilt twice and each of their
/// products has two gradients. With 512 to 4096 tokens that is 3.5 to 4 times the time of forward with the same stretches.
/// Error: 2e-5 of the largest number of each gradient in float, 1e-12 in double, for layers of natural scale.
template <class T> class GoldBackward {
 public:
  using Layer = Gold<T>;

  using Gradients = typename Layer::Gradients;

  /// One sequence: m queries on n tokens of the cache, which is as it was when the layer was called. All gradients are added
  /// to, so that layers that share a cache, and sequences that share weights, give their sum; dstate is overwritten.
  struct Call {
    /// What the layer and the TokenCat were made of. If they keep weights in a format that rounds, give the rounded ones.
    typename Layer::Weights const& weights;
    WeightMatrix expand;                 ///< (C, C + R)
    MatView<T const> x;                  ///< (m, C): the layer's input
    typename Layer::State const& state;  ///< before the first query
    MatView<T const> dy;                 ///< (m, C)
    MatView<T> dx;                       ///< (m, C)
    typename Layer::State& dstate;       ///< of the state after the last query; becomes that of `state`
    MatSink<T> de = {};                  ///< (n, C): of e = LayerNorm_ln0(embedding), as TokenCat::embed gives it
    MatSink<T> dc = {};                  ///< (n, R): of the compressed keys, as the cache gives them
    Gradients dweights = {};
    MatSink<T> dexpand = {};  ///< (C, C + R)
  };

  /// The numbers of scratch that a query needs.
  static Index scratch_size(Layer const& layer) noexcept { return kept_size(layer) + way_back_size(layer); }
  /// The same for all queries of a block's call: see Gold::backward_scratch_size.
  static Index scratch_size(Layer const& layer, Index tokens, Index between) noexcept {
    return tokens * kept_size(layer) + std::max(tokens * way_back_size(layer), between);
  }

  /// The numbers of a workspace. They do not depend on the tokens of the cache, of which it takes blocks of 128.
  static Index workspace_size(Layer const& layer, TokenCat<T> const& token_cat) noexcept {
    Index const c = padded<T>(layer.channels()), n = block, hidden = padded<T>(layer.shift_.hidden_size());
    Index const key = layer.key_.scratch_size(), value = layer.value_.scratch_size();
    Index const kept = (n + 1) * 2 * c + n * (hidden + 6 * c + key + value) + n * 2 * c;
    Index const rebuild = std::max((n + 1) * token_cat.scratch_size(), n * layer.shift_.scratch_size());
    Index const lora = std::max({key, value, layer.shift_.backward_scratch_size()});
    Index const back = (n + 1) * 2 * c + n * hidden + std::max(n * lora, (n + 1) * token_cat.backward_scratch_size());
    return std::max(layer.workspace_size(token_cat),
                    kept + std::max({rebuild, AttentionBackward<T>::workspace_size(layer.channels()), back})) +
           2 * c;
  }

  /// @param scratch  for at least one query: its size decides how many queries are a stretch
  /// @param context  of one sequence, with workspace_size() numbers of workspace. Rebuilt keys and values are not looked at
  /// @throws std::invalid_argument for a scratch of less than a query, and what the executor throws
  template <KeyStorage S, Executor E = Serial>
  static void run(Layer const& layer, Call const& call, Scratch<T>& scratch, GoldContext<T, S> const& context,
                  E&& executor = {}) {
    scratch.for_stretches(call.x.rows(), scratch_size(layer), [&](Index first, Index count) {
      Rows const rows = Rows::of(layer, [&](Index columns) { return scratch.rows(count, columns); });
      Run<S, E> const run{layer, call, scratch, context, 0, executor};
      if (first == 0) run.take_state();
      run.forward(first, rows);
      run.back(first, rows);
    });
  }

  /// Gold::backward.
  template <KeyStorage S, class E, class Between>
  static void run(Layer const& layer, typename Layer::BackwardCall const& call, GoldTape<T, S> const& tape,
                  Scratch<T>& scratch, E& executor, Between&& between) {
    if (call.x.rows() == 0) return;
    typename Scratch<T>::Frame const frame(scratch);
    auto const room = [&](Index columns) { return scratch.rows(call.x.rows(), columns); };
    Rows const all = Rows::of(layer, room);
    auto const for_sequences = [&](auto const& f) {
      Index cached = 0;
      for (Index s = call.states.first(); s < call.states.end(); ++s) {
        Index const begin = call.states.begin_of(s), count = call.states.end_of(s) - begin;
        Index const n = tape.context.cache(s).size();
        Call const one{.weights = call.weights,
                       .expand = tape.expand,
                       .x = call.x.rows(begin, count),
                       .state = call.states.state(s),
                       .dy = call.dy.rows(begin, count),
                       .dx = call.dx.rows(begin, count),
                       .dstate = *call.dstates.of(s, 1),
                       .de = tape.de.rows_of(cached, n),
                       .dc = tape.dc.rows_of(cached, n),
                       .dweights = call.dweights,
                       .dexpand = tape.dexpand};
        if (count > 0) f(Run<S, E>{layer, one, scratch, tape.context, s, executor}, all.rows(begin, count));
        cached += n;
      }
    };
    for_sequences([](Run<S, E> const& run, Rows const& rows) { run.forward(0, rows); });
    auto const finish = [&](MatView<T> y) {
      typename Scratch<T>::Frame const inner(scratch);
      MatView<T> const normal = room(layer.channels());
      layer.ln_x_(all.read, normal);
      layer.output_(normal, y, executor);
    };
    detail::go_between(scratch, call.x.rows(), layer.channels(), finish, between);
    for_sequences([&](Run<S, E> const& run, Rows const& rows) {
      typename Scratch<T>::Frame const inner(scratch);
      run.take_state();
      run.back(0, rows);
    });
  }

 private:
  static constexpr Index block = detail::attention_block;

  /// What is kept of m queries from the way forward to the way back.
  struct Rows {
    MatView<T> before, shifted, projected, q, read;  // (m, C); `projected` are queries before their norm
    MatView<T> hidden, log_sums;                     // (m, D), (m, H)

    template <class Take> static Rows of(Layer const& layer, Take&& take) {
      Index const c = layer.channels();
      return {take(c), take(c), take(c), take(c), take(c), take(layer.query_shift_.hidden_size()), take(layer.heads())};
    }
    Rows rows(Index first, Index count) const noexcept {
      auto const some = [&](MatView<T> const& all) { return all.rows(first, count); };
      return {some(before), some(shifted), some(projected), some(q), some(read), some(hidden), some(log_sums)};
    }
  };

  /// The numbers of scratch that a query needs for Rows, and beside these.
  static Index kept_size(Layer const& layer) noexcept {
    detail::CountedRows<T> count{1};
    (void)Rows::of(layer, count);
    return count.numbers;
  }
  static Index way_back_size(Layer const& layer) noexcept {
    auto const& shift = layer.query_shift_;
    return 2 * padded<T>(layer.channels()) + padded<T>(shift.hidden_size()) +
           std::max({shift.scratch_size(), shift.backward_scratch_size(),
                     detail::OnlineAttention<T>::scratch_size(layer.heads()),
                     AttentionBackward<T>::scratch_size(layer.heads())});
  }

  /// What all parts of a call refer to.
  template <class S, class E> struct Run {
    Layer const& layer;
    Call const& call;
    Scratch<T>& scratch;
    GoldContext<T, S> const& context;
    Index sequence;  // of the context
    E& executor;

    /// Takes the gradient of the state after the last query to the input that it is.
    void take_state() const noexcept {
      [[maybe_unused]] Index const m = call.x.rows(), c = layer.channels();
      AVIARY_ASSERT(call.x.columns() == c && call.dy.columns() == c && call.dx.columns() == c);
      AVIARY_ASSERT(call.dy.rows() == m && call.dx.rows() == m && m <= cache().size());
      AVIARY_ASSERT(static_cast<Index>(call.dstate.x.size()) == c && static_cast<Index>(call.state.x.size()) == c);
      MatView<T> const d(call.dstate.x.data(), 1, c);
      detail::add_rows<T>(call.dx.rows(m - 1, 1), d);
      detail::fill_rows(d, T(0));
    }

    /// Computes all rows of the queries from `first` on.
    void forward(Index first, Rows const& m) const {
      MatView<T const> const x = call.x.rows(first, m.q.rows());
      rows_before(x, first > 0 ? call.x[first - 1] : VecView<T const>(call.state.x), m.before);
      layer.query_shift_.prepare(x, m.before, m.hidden, scratch, executor);
      layer.query_shift_(0, m.hidden, x, m.before, m.shifted, executor);
      layer.query_(m.shifted, m.projected, executor);
      layer.finish_queries(m.projected, position(first), m.q);
      layer.attend_anew({m.q, position(first)}, m.read, cache(), scratch, context, executor, m.log_sums);
    }

    /// All gradients. m.q is used up.
    void back(Index first, Rows const& m) const {
      typename Layer::Weights const& w = call.weights;
      Gradients const& d = call.dweights;
      Index const count = m.q.rows();
      MatView<T const> const x = call.x.rows(first, count), dy = call.dy.rows(first, count);
      MatView<T> const dread = room(count), dq = room(count);
      MatView<T> const dhidden = scratch.rows(count, layer.query_shift_.hidden_size());

      MatView<T> const normal = dq;
      layer.ln_x_(m.read, normal);
      add_weight_gradient<T>(dy, normal, d.output, executor);
      detail::fill_rows(dread, T(0));
      add_input_gradient<T>(w.output, WeightLayout::out_in, dy, dread, executor);
      through_norm(layer.ln_x_, m.read, dread, d.ln_x_weight, d.ln_x_bias);

      detail::fill_rows(dq, T(0));
      through_attention({m.q, m.read, dread, m.log_sums, position(first), dq});
      layer.scale_queries(dq);
      if (layer.rotary_) layer.rotary_->backward(dq, position(first));
      through_norm(layer.ln_q_, m.projected, dq, d.ln_q_weight, d.ln_q_bias);
      add_weight_gradient<T>(dq, m.shifted, d.query, executor);

      MatView<T> const dshifted = dread, dbefore = m.q, dx = call.dx.rows(first, count);
      for (MatView<T> const& rows : {dshifted, dbefore}) detail::fill_rows(rows, T(0));
      add_input_gradient<T>(w.query, WeightLayout::out_in, dq, dshifted, executor);
      layer.query_shift_.backward(0, w.query_shift, m.hidden, x, m.before, dshifted, dhidden, dx, dbefore,
                                  d.query_shift, scratch, executor);
      layer.query_shift_.prepare_backward(w.query_shift, x, m.before, m.hidden, dhidden, dx, dbefore, d.query_shift,
                                          scratch, executor);
      rows_before_backward<T>(dbefore, dx, first > 0 ? call.dx[first - 1] : VecView<T>(call.dstate.x));
    }

   private:
    MatView<T> room(Index rows) const noexcept { return scratch.rows(rows, layer.channels()); }
    TokenCache<S> const& cache() const noexcept { return context.cache(sequence); }
    /// Of query `first` of the call.
    Index position(Index first) const noexcept { return cache().size() - call.x.rows() + first; }

    /// dq += what reaches the queries; embeddings, compressed keys and the weights behind keys and values get theirs.
    void through_attention(typename AttentionBackward<T>::Queries const& queries) const {
      typename Scratch<T>::Frame const frame(scratch);
      AttentionBackward<T> const attention(queries, layer.heads(), scratch);
      Index const end = queries.position + queries.q.rows();
      for (Index first = 0; first < end; first += block) through_block(attention, first, std::min(block, end - first));
    }

    void through_block(AttentionBackward<T> const& attention, Index first, Index count) const {
      Scratch<T>& workspace = context.workspace();
      typename Scratch<T>::Frame const frame(workspace);
      Index const c = layer.channels(), hidden = layer.shift_.hidden_size();
      auto const rows = [&](Index n, Index columns) { return workspace.rows(n, columns); };
      auto const stream = [&](LowRank<T> const& lora) -> typename Layer::Stream {
        return {rows(count, c), rows(count, lora.rank()), rows(count, c), rows(count, c)};
      };
      typename Layer::Rebuilt const b{rows(count + 1, c), rows(count + 1, c), rows(count, hidden), stream(layer.key_),
                                      stream(layer.value_)};
      MatView<T> const dk = rows(count, c), dv = rows(count, c);
      layer.rebuild(b, first, cache(), context, executor);
      for (MatView<T> const& d : {dk, dv}) detail::fill_rows(d, T(0));
      attention.add(b.key.normal, b.value.normal, first, dk, dv, workspace, executor);

      typename Layer::Weights const& w = call.weights;
      Gradients const& d = call.dweights;
      MatView<T> const dkd = rows(count + 1, c), deh = rows(count + 1, c), dhidden = rows(count, hidden);
      for (MatView<T> const& to : {dkd, deh}) detail::fill_rows(to, T(0));
      if (layer.rotary_) layer.rotary_->backward(dk, first);
      through_norm(layer.ln_k_, b.key.sum, dk, d.ln_k_weight, d.ln_k_bias);
      through_norm(layer.ln_v_, b.value.sum, dv, d.ln_v_weight, d.ln_v_bias);
      through_stream(0, layer.key_, w.key_w1, w.key_w2, {d.key_w1, d.key_w2}, b, b.key, b.kd, dk, dhidden, dkd);
      through_stream(1, layer.value_, w.value_w1, w.value_w2, {d.value_w1, d.value_w2}, b, b.value, b.eh, dv, dhidden,
                     deh);
      layer.shift_.prepare_backward(w.shift, b.eh.rows(1, count), b.eh.rows(0, count), b.hidden, dhidden,
                                    deh.rows(1, count), deh.rows(0, count), d.shift, workspace, executor);

      Index const before = first > 0 ? 1 : 0, n = count + before;
      context.token_cat().backward(call.expand, cache(), first - before, dkd.rows(1 - before, n),
                                   deh.rows(1 - before, n), call.de.rows_of(first - before, n),
                                   call.dc.rows_of(first - before, n), call.dexpand, workspace, executor);
    }

    /// Back through x + tanh(x W1) W2, which reads s.normal no more, and through slice n of the shift, from `dsum` to the
    /// rows that it has shifted.
    void through_stream(Index n, LowRank<T> const& lora, WeightMatrix const& w1, WeightMatrix const& w2,
                        typename LowRank<T>::Gradients const& dlora, typename Layer::Rebuilt const& b,
                        typename Layer::Stream const& s, MatView<T> x, MatView<T> dsum, MatView<T> dhidden,
                        MatView<T> dx) const {
      Scratch<T>& workspace = context.workspace();
      Index const count = dsum.rows();
      MatView<T> const dshifted = s.normal;
      detail::transform_rows(dshifted, activation::none, dsum);
      lora.backward(w1, w2, s.shifted, s.hidden, detail::pull_tanh, dsum, dshifted, dlora, workspace, executor);
      layer.shift_.backward(n, call.weights.shift, b.hidden, x.rows(1, count), x.rows(0, count), dshifted, dhidden,
                            dx.rows(1, count), dx.rows(0, count), call.dweights.shift, workspace, executor);
    }

    /// What reached LayerNorm(x) becomes, in place, what reaches x.
    void through_norm(LayerNorm<T> const& norm, MatView<T const> x, MatView<T> d, VecSink<T> dweight,
                      VecSink<T> dbias) const noexcept {
      norm.backward(x, d, d, dweight, dbias, context.workspace());
    }
  };
};

}  // namespace AVIARY_NAMESPACE
