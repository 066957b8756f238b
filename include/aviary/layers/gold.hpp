#pragma once
/// The attention layer of GoldFinch (Goldstein et al. 2024, arXiv:2407.12077) over a token cache, for use as the time mix
/// of a Block. Its equations are in aviary/gold.hpp.
#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "aviary/cache/attention.hpp"
#include "aviary/core/error.hpp"
#include "aviary/core/math.hpp"
#include "aviary/dense/low_rank.hpp"
#include "aviary/layers/low_rank_token_shift.hpp"
#include "aviary/layers/norm.hpp"
#include "aviary/layers/rotary.hpp"
#include "aviary/layers/sequence_layer.hpp"
#include "aviary/layers/token_cat.hpp"

namespace AVIARY_NAMESPACE {

template <class T> class GoldBackward;

/// What a GOLD layer attends to, an argument of its calls and of its block's: for each sequence the cache, which holds the
/// tokens of all its queries already, and what rebuilds keys and values. It refers to all of these.
template <class T, KeyStorage S> class GoldContext {
 public:
  /// @param queries  the rows that the layer will be called with; the last one is the last token of the cache
  /// @param workspace  at least workspace_size() numbers of the layer. Layers that run one after another may share it. It
  /// must not be the scratch of the call
  /// @param rebuilt  keeps the keys and values of this layer once they are rebuilt, from empty_rebuilt(); the layer appends
  /// what is missing. Truncate it with the cache. Without it every call rebuilds all keys and values
  /// @throws std::invalid_argument unless the cache fits the TokenCat and holds so many tokens, and `rebuilt` holds no more
  /// than the tokens before the queries
  GoldContext(TokenCat<T> const& token_cat, TokenCache<S> const& cache, Index queries, Scratch<T>& workspace,
              KeyValueCache<T>* rebuilt = nullptr)
      : token_cat_(&token_cat),
        caches_(&cache, 1),
        workspace_(&workspace),
        rebuilt_(rebuilt, rebuilt == nullptr ? 0 : 1) {
    expect_queries(0, queries);
  }
  /// For Packed sequences.
  /// @param caches  one for each sequence     @param offsets  of the sequences, as the layer will be called with
  /// @param rebuilt  one for each sequence, or none
  GoldContext(TokenCat<T> const& token_cat, States<TokenCache<S> const> caches, std::span<Index const> offsets,
              Scratch<T>& workspace, States<KeyValueCache<T>> rebuilt = {nullptr, 0})
      : token_cat_(&token_cat), caches_(caches), workspace_(&workspace), rebuilt_(rebuilt) {
    detail::Packing const packing{offsets, offsets.back()};
    for (Index s = 0; s < packing.sequences(); ++s) expect_queries(s, packing.end(s) - packing.begin(s));
  }

  TokenCat<T> const& token_cat() const noexcept { return *token_cat_; }
  TokenCache<S> const& cache(Index sequence) const noexcept { return *caches_.of(sequence, 1); }
  Scratch<T>& workspace() const noexcept { return *workspace_; }
  /// Null where rebuilt keys are not kept.
  KeyValueCache<T>* rebuilt(Index sequence) const noexcept {
    return rebuilt_.empty() ? nullptr : rebuilt_.of(sequence, 1);
  }

  /// The context of some of the rows of a call: the same.
  GoldContext const& rows(Index, Index) const noexcept { return *this; }

 private:
  void expect_queries(Index sequence, Index queries) const {
    TokenCache<S> const& cache = this->cache(sequence);
    if (cache.width() != token_cat_->width() || cache.vocab_size() > token_cat_->vocab_size())
      fail("a cache of " + std::to_string(cache.width()) + " numbers a token and " +
           std::to_string(cache.vocab_size()) + " ids, expected " + std::to_string(token_cat_->width()) + " and " +
           std::to_string(token_cat_->vocab_size()));
    if (queries < 0 || queries > cache.size())
      fail(std::to_string(queries) + " queries on a cache of " + std::to_string(cache.size()) + " tokens");
    KeyValueCache<T> const* const keys = rebuilt(sequence);
    if (keys != nullptr && keys->size() > cache.size() - queries)
      fail(std::to_string(keys->size()) + " keys are rebuilt and the first query is token " +
           std::to_string(cache.size() - queries) + ": truncate them with the cache");
  }
  [[noreturn]] static void fail(std::string const& what) { detail::refuse("GoldContext: " + what); }

  TokenCat<T> const* token_cat_;
  States<TokenCache<S> const> caches_;
  Scratch<T>* workspace_;
  States<KeyValueCache<T>> rebuilt_;
};

/// C channels in and out, H heads of N numbers, C = H N. Called like every time mix, with a GoldContext after the scratch:
///
///     layer(x, state, y, scratch, GoldContext(token_cat, cache, x.rows(), workspace));
///
///   Cost: a call with m queries on n tokens, with ranks D of the mix and L of keys and values, takes 2 C^2 multiply-adds
///   for each query, 2 C for each query and token, and about C (C + R + 4 D + 4 L) for each token and stretch of queries
///   that the scratch allows. With a cache of rebuilt keys and values, each token costs the latter once. Only that cache
///   allocates. Splitting a sequence into calls in any way gives the same bits, and so do all executors and a cache of
///   rebuilt keys and values.
template <class Number> class Gold : public detail::SequenceLayer<Gold<Number>, Number> {
 public:
  using T = Number;
  using QueryShift = LowRankTokenShift<T, 1>;
  using Shift = LowRankTokenShift<T, 2>;
  static constexpr bool shares_values = false;

  /// The names of the weights. Linear weights are (out, in), low-rank factors (in, out). In released files base and mix
  /// of the shifts are time_maa_x and time_maa_q for queries; time_maa_v_cache, then time_maa_k and time_maa_v, for keys
  /// and values.
  template <class As> struct Parameters {
    typename QueryShift::template Parameters<As> query_shift;  ///< w1, w2: time_maa_q_w1, time_maa_q_w2
    typename Shift::template Parameters<As> shift;             ///< w1, w2: time_maa_kv_w1, the two of time_maa_kv_w2
    typename As::Matrix key_w1, key_w2;                        ///< (C, L), (L, C)
    typename As::Matrix value_w1, value_w2;                    ///< (C, L), (L, C)
    typename As::Matrix query, output;                         ///< (C, C) each
    typename As::Vector ln_q_weight, ln_q_bias;                ///< (C) each
    typename As::Vector ln_k_weight, ln_k_bias;                ///< (C) each
    typename As::Vector ln_v_weight, ln_v_bias;                ///< (C) each
    typename As::Vector ln_x_weight, ln_x_bias;                ///< (C) each
    typename As::template Setting<Required<Index>> heads;      ///< H
    /// 10000 in models that have a rotary embedding; most have none
    typename As::template Setting<std::optional<double>> rotary_base = std::optional<double>();
    typename As::template Setting<WeightFormat> format = WeightFormat::exact;
  };
  using Weights = Parameters<GivenWeights<T>>;       ///< the constructor copies them
  using Gradients = Parameters<WeightGradients<T>>;  ///< added to

  /// The input of the token before. Zeros are the empty context. The rest is in the cache.
  struct State {
    AlignedVector<T> x;  ///< (C)
    friend bool operator==(State const&, State const&) = default;
  };

  using StateGradient = State;
  using BackwardCall = detail::LayerBackwardCall<Gold>;

  /// @throws std::invalid_argument if shapes do not fit together
  explicit Gold(Weights const& w)
      : shape_(detail::attention_shape("Gold", checked(w).query_shift.base.size(), w.heads)),
        query_shift_(w.query_shift),
        shift_(w.shift),
        key_(w.key_w1, w.key_w2, w.format),
        value_(w.value_w1, w.value_w2, w.format),
        query_(w.query, w.format),
        output_(w.output, w.format),
        ln_q_(w.ln_q_weight, w.ln_q_bias),
        ln_k_(w.ln_k_weight, w.ln_k_bias),
        ln_v_(w.ln_v_weight, w.ln_v_bias),
        ln_x_(w.ln_x_weight, w.ln_x_bias) {
    if (w.rotary_base) rotary_.emplace(shape_.head_size, *w.rotary_base);
  }

  Index channels() const noexcept { return shape_.channels(); }
  Index heads() const noexcept { return shape_.heads; }
  Index head_size() const noexcept { return shape_.head_size; }
  State empty_state() const { return {AlignedVector<T>(to_size(channels()))}; }
  /// The gradient of a state that has no part in the loss.
  StateGradient empty_state_gradient() const { return empty_state(); }
  /// Puts a state back to the empty context. It does not allocate. Truncate the cache and what is rebuilt with it.
  void reset(State& state) const noexcept { std::fill(state.x.begin(), state.x.end(), T(0)); }
  /// An empty cache of rebuilt keys and values, for callers who keep them: 2 C numbers of T for each token and layer.
  KeyValueCache<T> empty_rebuilt() const { return KeyValueCache<T>(channels(), heads()); }
  /// The numbers of scratch that a token needs.
  Index scratch_size() const noexcept {
    return 3 * padded<T>(channels()) + std::max(detail::OnlineAttention<T>::scratch_size(heads()),
                                                padded<T>(query_shift_.hidden_size()) + query_shift_.scratch_size());
  }
  /// The numbers of a workspace. They do not depend on the tokens of the cache, of which it takes blocks of 128.
  Index workspace_size(TokenCat<T> const& token_cat) const noexcept {
    Index const c = padded<T>(channels()), n = detail::attention_block;
    Index const hidden = padded<T>(shift_.hidden_size()) + key_.scratch_size() + value_.scratch_size();
    return padded<T>(shape_.size()) + (n + 1) * 2 * c + n * (3 * c + hidden) +
           std::max((n + 1) * token_cat.scratch_size(), n * shift_.scratch_size());
  }

  /// @name Gradients, with layers/gold_backward.hpp included
  ///@{
  /// The numbers of scratch that `backward` needs for so many tokens, in any number of sequences.
  /// @param between  numbers that are free at backward's `between`, two rows of C for each token among them
  Index backward_scratch_size(Index tokens, Index /*sequences*/ = 1, Index /*concurrency*/ = 1,
                              Index between = 0) const noexcept {
    return GoldBackward<T>::scratch_size(*this, tokens, between);
  }

  /// Adds to dx and to all gradients what reaches them, and takes those of the states back. It goes forward through all
  /// tokens of the call once more. GoldBackward says at what cost, and with what error.
  /// @param tape  a GoldTape     @param scratch  has backward_scratch_size(...) numbers
  /// @param between  is called once with y (tokens, C), when the layer has gone forward. Until then call.dy is not read
  template <class Tape, Executor E = Serial, class Between = detail::NothingBetween>
  void backward(BackwardCall const& call, Tape const& tape, Scratch<T>& scratch, E&& executor = {},
                Between&& between = {}) const {
    GoldBackward<T>::run(*this, call, tape, scratch, executor, between);
  }
  ///@}

 private:
  friend detail::SequenceLayer<Gold, T>;
  friend GoldBackward<T>;

  template <class E, class Context>
  void stretch(MatView<T const> x, Packed<State> const& sequences, MatView<T> y, Scratch<T>& scratch,
               Context const& context, E& executor) const {
    AVIARY_ASSERT(context.token_cat().channels() == channels());
    MatView<T> const q = scratch.rows(x.rows(), channels()), read = scratch.rows(x.rows(), channels());
    MatView<T> const before = scratch.rows(x.rows(), channels());
    detail::shift_rows(x, sequences, before);
    make_queries(x, before, sequences, read, q, scratch, context, executor);
    for (Index s = sequences.first(); s < sequences.end(); ++s) {
      Index const begin = sequences.begin_of(s), count = sequences.end_of(s) - begin;
      if (count > 0)
        attend({q.rows(begin, count), position(sequences, s, context)}, read.rows(begin, count), context.cache(s),
               context.rebuilt(s), scratch, context, executor);
    }
    ln_x_(read, read);
    output_(read, y, executor);
  }

  /// The position of a sequence's first query among these rows: its last one of the call is the cache's last token.
  template <class Context>
  static Index position(Packed<State> const& sequences, Index s, Context const& context) noexcept {
    return context.cache(s).size() - sequences.left_of(s) - (sequences.end_of(s) - sequences.begin_of(s));
  }

  /// Computes q (m, C), with its scale; `shifted` (m, C) is room for a matrix.
  template <class E, class Context>
  void make_queries(MatView<T const> x, MatView<T const> before, Packed<State> const& sequences, MatView<T> shifted,
                    MatView<T> q, Scratch<T>& scratch, Context const& context, E& executor) const {
    typename Scratch<T>::Frame const frame(scratch);
    MatView<T> const hidden = scratch.rows(x.rows(), query_shift_.hidden_size());
    query_shift_.prepare(x, before, hidden, scratch, executor);
    query_shift_(0, hidden, x, before, shifted, executor);
    query_(shifted, q, executor);
    for (Index s = sequences.first(); s < sequences.end(); ++s) {
      Index const begin = sequences.begin_of(s), count = sequences.end_of(s) - begin;
      finish_queries(q.rows(begin, count), position(sequences, s, context), q.rows(begin, count));
    }
  }

  /// Normalises, turns and scales what W_q makes of one sequence: x (m, C) becomes q (m, C), which may be x.
  void finish_queries(MatView<T const> x, Index position, MatView<T> q) const noexcept {
    ln_q_(x, q);
    if (rotary_) (*rotary_)(q, position);
    scale_queries(q);
  }
  void scale_queries(MatView<T> q) const noexcept {
    detail::transform_rows(
        q,
        [scale = static_cast<T>(query_scale(head_size()))](auto const& e) {
          return e * std::remove_cvref_t<decltype(e)>(scale);
        },
        q);
  }

  /// Queries of one sequence, and the position of the first.
  struct Queries {
    MatView<T> q;
    Index position;
    Index end() const noexcept { return position + q.rows(); }
  };

  template <class E, class Cache, class Context>
  void attend(Queries queries, MatView<T> y, Cache const& cache, KeyValueCache<T>* rebuilt, Scratch<T>& scratch,
              Context const& context, E& executor) const {
    rebuilt != nullptr ? attend_rebuilt(queries, y, cache, *rebuilt, scratch, context, executor)
                       : attend_anew(queries, y, cache, scratch, context, executor);
  }

  /// Attends to keys and values that it rebuilds block by block, and drops.
  template <class E, class Cache, class Context>
  void attend_anew(Queries queries, MatView<T> y, Cache const& cache, Scratch<T>& scratch, Context const& context,
                   E& executor, MatSink<T> log_sums = {}) const {
    typename Scratch<T>::Frame const frame(scratch), block_frame(context.workspace());
    detail::OnlineAttention<T> const attention(queries.q, shape_, queries.position, y, scratch);
    T* const block = context.workspace().rows(1, shape_.size()).data();
    for (Index first = 0; first < queries.end(); first += detail::attention_block) {
      Index const count = std::min(detail::attention_block, queries.end() - first);
      rebuild(first, count, cache, context, executor,
              [&](MatView<T const> k, MatView<T const> v) { shape_.put(k, v, 0, block); });
      attention.add(block, first, count, executor);
    }
    attention.finish();
    attention.log_sums(log_sums);
  }

  /// Attends to keys and values that are kept, after it has rebuilt the missing ones.
  template <class E, class Cache, class Context>
  void attend_rebuilt(Queries queries, MatView<T> y, Cache const& cache, KeyValueCache<T>& rebuilt, Scratch<T>& scratch,
                      Context const& context, E& executor) const {
    AVIARY_ASSERT(rebuilt.channels() == channels() && rebuilt.heads() == heads());
    while (rebuilt.size() < queries.end())
      rebuild(rebuilt.size(), std::min(detail::attention_block, queries.end() - rebuilt.size()), cache, context,
              executor, [&](MatView<T const> k, MatView<T const> v) { rebuilt.append(k, v); });
    rebuilt.attend(queries.q, queries.position, y, scratch, executor);
  }

  /// Calls use(k, v) with the keys and values (count, C) of at most 128 tokens, normalised and turned.
  template <class E, class Cache, class Context, class F>
  void rebuild(Index first, Index count, Cache const& cache, Context const& context, E& executor, F&& use) const {
    Scratch<T>& workspace = context.workspace();
    typename Scratch<T>::Frame const frame(workspace);
    Index const c = channels();
    auto const room = [&](Index rows, Index columns) { return workspace.rows(rows, columns); };
    MatView<T> const kd = room(count + 1, c), eh = room(count + 1, c), hidden = room(count, shift_.hidden_size());
    MatView<T> const k = room(count, c), v = room(count, c), sum = room(count, c);
    rebuild({.kd = kd,
             .eh = eh,
             .hidden = hidden,
             .key = {.shifted = k, .hidden = room(count, key_.rank()), .sum = sum, .normal = k},
             .value = {.shifted = v, .hidden = room(count, value_.rank()), .sum = sum, .normal = v}},
            first, cache, context, executor);
    use(k, v);
  }

  /// On the way to the keys or values of a block: x after the token shift, tanh(x W1), x + tanh(x W1) W2, and what the
  /// attention takes.
  struct Stream {
    MatView<T> shifted, hidden, sum, normal;  // (count, C), (count, L), (count, C) twice; normal may be shifted
  };
  /// All of a block.
  struct Rebuilt {
    MatView<T> kd, eh;  // (count + 1, C): row 0 is the token before, zeros before the first
    MatView<T> hidden;  // (count, 2 D): of the token shift
    Stream key, value;  // may share what sums they have
  };

  template <class E, class Cache, class Context>
  void rebuild(Rebuilt const& b, Index first, Cache const& cache, Context const& context, E& executor) const {
    Scratch<T>& workspace = context.workspace();
    Index const count = b.hidden.rows(), before = first > 0 ? 1 : 0;
    for (MatView<T> const& rows : {b.kd, b.eh}) std::fill_n(rows.data(), channels(), T(0));
    context.token_cat()(cache, first - before, b.kd.rows(1 - before, count + before),
                        b.eh.rows(1 - before, count + before), workspace, executor);
    shift_.prepare(b.eh.rows(1, count), b.eh.rows(0, count), b.hidden, workspace, executor);
    shift_(0, b.hidden, b.kd.rows(1, count), b.kd.rows(0, count), b.key.shifted, executor);
    shift_(1, b.hidden, b.eh.rows(1, count), b.eh.rows(0, count), b.value.shifted, executor);
    finish_rows(key_, ln_k_, b.key, executor);
    finish_rows(value_, ln_v_, b.value, executor);
    if (rotary_) (*rotary_)(b.key.normal, first);
  }

  /// LayerNorm(x + tanh(x W1) W2)
  template <class E>
  static void finish_rows(LowRank<T> const& lora, LayerNorm<T> const& norm, Stream const& s, E& executor) {
    lora(s.shifted, activation::tanh, s.hidden, s.sum, executor);
    detail::transform_rows(
        s.sum, [](auto const& e, auto const& d) { return e + d; }, s.shifted, s.sum);
    norm(s.sum, s.normal);
  }

  static Weights const& checked(Weights const& w) {
    detail::ExpectShapes const expect{"Gold"};
    Index const c = w.query_shift.base.size();
    expect("shift.base", w.shift.base, c);
    detail::expect_low_rank(expect, "key_w1", w.key_w1, c, "key_w2", w.key_w2, c);
    detail::expect_low_rank(expect, "value_w1", w.value_w1, c, "value_w2", w.value_w2, c);
    expect("query", w.query, c, c);
    expect("output", w.output, c, c);
    expect("ln_q_weight", w.ln_q_weight, c);
    expect("ln_q_bias", w.ln_q_bias, c);
    expect("ln_k_weight", w.ln_k_weight, c);
    expect("ln_k_bias", w.ln_k_bias, c);
    expect("ln_v_weight", w.ln_v_weight, c);
    expect("ln_v_bias", w.ln_v_bias, c);
    expect("ln_x_weight", w.ln_x_weight, c);
    expect("ln_x_bias", w.ln_x_bias, c);
    return w;
  }

  detail::AttentionShape shape_;
  QueryShift query_shift_;
  Shift shift_;
  LowRank<T> key_, value_;
  Linear<T> query_, output_;
  LayerNorm<T> ln_q_, ln_k_, ln_v_, ln_x_;
  std::optional<Rotary> rotary_;
};

}  // namespace AVIARY_NAMESPACE
