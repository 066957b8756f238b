#pragma once
/// What GoldFinch (Goldstein et al. 2024, arXiv:2407.12077) is between embedding and head.
///
///   x = FinchC2Block_i(x)        for i below n1, every token
///   cache <- (token id, W_a x)   the compressed key: all that is kept of a token for attention
///   x = GoldBlock_i(x)           the rest, over the cache
///
/// The attention blocks see only the last 2 n + 1 tokens of a prompt, n being their number: each looks back one token in its
/// two token shifts, so the last of these tokens gets what a run over all of them would give it. While a prompt is read,
/// these rows wait. The number of threads and whether keys are kept change no bit. Where a prompt is split into calls may
/// change the last ones, of the recurrences below the attention.
#include <algorithm>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "aviary/io/token_cache_file.hpp"
#include "aviary/layers/gold.hpp"
#include "aviary/layers/time_mix_c2.hpp"
#include "models/block_model.hpp"
#include "models/checkpoint.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// Everything but embedding and head. Allocates when the cache grows.
template <class Number, Index Size> class GoldFinchBody {
 public:
  using T = Number;
  using Recurrent = aviary::Block<aviary::TimeMix<aviary::FinchC2<T, Size>>>;
  using Attention = aviary::Block<aviary::Gold<T>>;
  using Cache = std::variant<aviary::TokenCache<T>, aviary::TokenCache<aviary::bf16>, aviary::TokenCache<aviary::f16>,
                             aviary::TokenCache<aviary::q8>>;

  struct Context {
    typename BlockStack<Recurrent>::Context recurrent;
    std::vector<typename Attention::State> attention;
    Cache cache;
    std::vector<aviary::KeyValueCache<T>> rebuilt;  ///< one per attention block, or none where they are not kept
    aviary::AlignedVector<T> waiting;  ///< (rows, C) of the last tokens that attention blocks have not seen, if any

    /// Bytes of the token cache.
    Index cache_bytes() const noexcept {
      return std::visit([](auto const& held) { return held.size_bytes(); }, cache);
    }
    /// Allocates what an assignment of the other, of the same shape, needs.
    void make_room(Context const& other) {
      Index const tokens = std::visit([](auto const& held) { return held.size(); }, other.cache);
      std::visit([&](auto& held) { held.reserve(tokens); }, cache);
      for (std::size_t i = 0; i < rebuilt.size(); ++i) rebuilt[i].reserve(other.rebuilt[i].size());
    }
  };

  /// At least one block of each kind. The format is that of the cache: bf16, f16, q8 or T's own.
  /// @throws std::invalid_argument for another format
  GoldFinchBody(BlockStack<Recurrent> recurrent, aviary::TokenCat<T> token_cat, std::vector<Attention> attention,
                aviary::NumberFormat format, bool keep_keys)
      : recurrent_(std::move(recurrent)),
        token_cat_(std::move(token_cat)),
        attention_(std::move(attention)),
        format_(format),
        keep_keys_(keep_keys) {
    empty_cache();
  }

  Index channels() const noexcept { return token_cat_.channels(); }

  Context empty_context() const {
    Context context{recurrent_.empty_context(), empty_states(), empty_cache(), {}, {}};
    context.waiting.reserve(aviary::to_size(exact_rows() * channels()));
    if (keep_keys_)
      for (Attention const& block : attention_) context.rebuilt.push_back(block.time_mix().empty_rebuilt());
    return context;
  }

  /// What calls compute with.
  struct Workspace {
    typename BlockStack<Recurrent>::Workspace recurrent;
    aviary::Scratch<T> scratch, rebuilding;
    aviary::AlignedVector<T> rows;  ///< (most_waiting(), C): those that waited, of several contexts
    std::vector<Index> offsets;     ///< of contexts among them
    std::vector<Index> sequences;   ///< which these are
  };
  /// For at most `tokens` at once.
  Workspace make_workspace(Index tokens) const {
    Workspace made{recurrent_.make_workspace(tokens),
                   aviary::Scratch<T>(
                       std::max(most_waiting() * attention_scratch(), tokens * aviary::padded<T>(token_cat_.width()))),
                   aviary::Scratch<T>(attention_workspace()),
                   aviary::AlignedVector<T>(aviary::to_size(most_waiting() * channels())),
                   {},
                   {}};
    made.offsets.reserve(aviary::to_size(most_waiting() + 1));
    made.sequences.reserve(aviary::to_size(most_waiting()));
    return made;
  }

  template <class Wants>
  void run(std::span<TokenId const> ids, aviary::MatView<T> x, aviary::Packed<Context> const& contexts,
           Wants const& wants, Workspace& workspace, Threads threads) const {
    auto const recurrent = [&](Index s) { return &contexts.state(s).recurrent; };
    recurrent_.run(ids, x, contexts.template with_states<typename BlockStack<Recurrent>::Context>(recurrent), wants,
                   workspace.recurrent, threads);
    for (Index s = contexts.first(); s < contexts.end(); ++s) {
      Index const begin = contexts.begin_of(s), count = contexts.end_of(s) - begin;
      Context& context = contexts.state(s);
      auto const append = [&](auto& cache) {
        token_cat_.append(ids.subspan(aviary::to_size(begin), aviary::to_size(count)), x.rows(begin, count), cache,
                          workspace.scratch, threads);
      };
      std::visit(append, context.cache);
      wait(x.rows(begin, count), context);
    }
    workspace.sequences.clear();
    workspace.offsets.assign(1, 0);
    for (Index s = contexts.first(); s < contexts.end(); ++s)
      if (wants(s)) {
        if (workspace.offsets.back() + waiting_rows(contexts.state(s)) > most_waiting())
          attend(x, contexts, workspace, threads);
        take_waiting(s, contexts.state(s), workspace);
      }
    attend(x, contexts, workspace, threads);
  }

  bool same_shape(Context const& a, Context const& b) const {
    auto const same_cache = [](auto const& cache, auto const& other) {
      return cache.width() == other.width() && cache.vocab_size() == other.vocab_size();
    };
    return recurrent_.same_shape(a.recurrent, b.recurrent) && a.attention.size() == b.attention.size() &&
           std::equal(a.attention.begin(), a.attention.end(), b.attention.begin(), same_size) &&
           a.rebuilt.size() == b.rebuilt.size() && a.cache.index() == b.cache.index() &&
           std::visit(same_cache, a.cache, b.cache);
  }

  /// @name For files of contexts
  ///@{
  std::string description() const {
    return recurrent_.description() + ", " + std::to_string(attention_.size()) + " of attention, cache of " +
           (format_ == own_format ? "full numbers" : std::string(name_of(format_)));
  }
  void write(aviary::StateWriter& to, Context const& context) const {
    recurrent_.write(to, context.recurrent);
    for (std::size_t i = 0; i < attention_.size(); ++i) write_block(to, first_attention() + i, context.attention[i]);
    std::visit([&](auto const& cache) { aviary::add_token_cache(to.tensors(), "cache", cache); }, context.cache);
    if (!context.waiting.empty()) write_row(to, "waiting", context.waiting);
  }
  void read(aviary::StateFile const& from, Context& context) const {
    recurrent_.read(from, context.recurrent);
    for (std::size_t i = 0; i < attention_.size(); ++i) read_block(from, first_attention() + i, context.attention[i]);
    std::visit([&](auto& cache) { aviary::read_token_cache(from.tensors(), "cache", cache); }, context.cache);
    for (auto& keys : context.rebuilt) keys.truncate(0);
    context.waiting.clear();
    if (from.tensors().contains("waiting"))
      read_waiting(from.tensors().tensor("waiting"), context.waiting,
                   std::visit([](auto const& cache) { return cache.size(); }, context.cache));
  }
  ///@}

 private:
  static constexpr aviary::NumberFormat own_format = aviary::format_of<T>;

  static bool same_size(typename Attention::State const& a, typename Attention::State const& b) noexcept {
    return a.time_mix.x.size() == b.time_mix.x.size() && a.channel_mix.x.size() == b.channel_mix.x.size();
  }

  Index exact_rows() const noexcept { return 2 * static_cast<Index>(attention_.size()) + 1; }
  std::size_t first_attention() const noexcept { return aviary::to_size(recurrent_.size()); }

  std::vector<typename Attention::State> empty_states() const {
    std::vector<typename Attention::State> states;
    for (Attention const& block : attention_) states.push_back(block.empty_state());
    return states;
  }
  Cache empty_cache() const {
    switch (format_) {
      case own_format:
        return token_cat_.template empty_cache<T>();
      case aviary::NumberFormat::bf16:
        return token_cat_.template empty_cache<aviary::bf16>();
      case aviary::NumberFormat::f16:
        return token_cat_.template empty_cache<aviary::f16>();
      case aviary::NumberFormat::q8:
        return token_cat_.template empty_cache<aviary::q8>();
      default:
        throw std::invalid_argument("expected a cache of " + std::string(name_of(own_format)) +
                                    ", bf16, f16 or q8, found " + std::string(name_of(format_)));
    }
  }

  Index attention_scratch() const noexcept {
    Index most = 0;
    for (Attention const& block : attention_) most = std::max(most, block.scratch_size());
    return most;
  }
  Index attention_workspace() const noexcept {
    Index most = 0;
    for (Attention const& block : attention_) most = std::max(most, block.time_mix().workspace_size(token_cat_));
    return most;
  }

  /// Appends rows to those that wait, and keeps the last. Without the first of all, attention begins anew: what is wrong
  /// about its first rows does not reach the last one.
  void wait(aviary::MatView<T> x, Context& context) const {
    auto& waiting = context.waiting;
    Index const most = exact_rows(), before = static_cast<Index>(waiting.size()) / channels();
    if (Index const surplus = before + x.rows() - most; surplus > 0) {
      for (std::size_t i = 0; i < attention_.size(); ++i) attention_[i].reset(context.attention[i]);
      waiting.erase(waiting.begin(), waiting.begin() + std::min(surplus, before) * channels());
    }
    for (Index t = std::max(Index{0}, x.rows() - most); t < x.rows(); ++t)
      waiting.insert(waiting.end(), x[t].begin(), x[t].end());
  }
  /// Rows that wait are the last of the tokens in the cache.
  void read_waiting(aviary::Tensor const& from, aviary::AlignedVector<T>& waiting, Index tokens) const {
    Index const rows = from.shape.size() == 1 ? from.size() / channels() : 0;
    if (rows < 1 || rows > exact_rows() || from.size() != rows * channels())
      throw std::runtime_error(from.message("expected 1 to " + std::to_string(exact_rows()) + " rows of " +
                                            std::to_string(channels()) + " numbers, found shape " +
                                            aviary::shape_text(from.shape)));
    if (rows > tokens)
      throw std::runtime_error(from.message("expected at most " + std::to_string(tokens) +
                                            " rows, one for each token of the cache, found " + std::to_string(rows)));
    waiting.resize(aviary::to_size(from.size()));
    from.read_into(waiting);
  }

  Index waiting_rows(Context const& context) const noexcept {
    return static_cast<Index>(context.waiting.size()) / channels();
  }
  /// Rows of several contexts that go through attention together.
  Index most_waiting() const noexcept { return std::max(Model::stretch, exact_rows()); }

  /// Lays the rows of a context that wait beside those of others.
  void take_waiting(Index s, Context& context, Workspace& workspace) const {
    std::ranges::copy(context.waiting, workspace.rows.data() + workspace.offsets.back() * channels());
    workspace.offsets.push_back(workspace.offsets.back() + waiting_rows(context));
    workspace.sequences.push_back(s);
    context.waiting.clear();
  }

  /// Takes the rows that waited through the attention blocks, and the last one of each context to its place in x.
  void attend(aviary::MatView<T> x, aviary::Packed<Context> const& contexts, Workspace& workspace,
              Threads threads) const {
    if (workspace.sequences.empty()) return;
    auto const context = [&](Index i) -> Context& { return contexts.state(workspace.sequences[aviary::to_size(i)]); };
    Index const count = static_cast<Index>(workspace.sequences.size());
    aviary::MatView<T> const rows(workspace.rows.data(), workspace.offsets.back(), channels());
    auto const with = [&]<class S>(aviary::TokenCache<S> const&) {
      auto const cache = [&](Index i) { return &std::get<aviary::TokenCache<S>>(std::as_const(context(i)).cache); };
      for (std::size_t block = 0; block < attention_.size(); ++block) {
        auto const state = [&](Index i) { return &context(i).attention[block]; };
        auto const rebuilt = [&](Index i) { return &context(i).rebuilt[block]; };
        using Rebuilt = aviary::States<aviary::KeyValueCache<T>>;
        attention_[block](rows,
                          aviary::Packed(aviary::States<typename Attention::State>(state, count, 1), workspace.offsets),
                          workspace.scratch,
                          aviary::GoldContext(token_cat_, aviary::States<aviary::TokenCache<S> const>(cache, count, 1),
                                              workspace.offsets, workspace.rebuilding,
                                              keep_keys_ ? Rebuilt(rebuilt, count, 1) : Rebuilt(nullptr, 0)),
                          threads);
      }
    };
    std::visit(with, context(0).cache);
    for (Index i = 0; i < count; ++i)
      std::copy_n(&rows(workspace.offsets[aviary::to_size(i) + 1] - 1, 0), channels(),
                  &x(contexts.end_of(workspace.sequences[aviary::to_size(i)]) - 1, 0));
    workspace.sequences.clear();
    workspace.offsets.assign(1, 0);
  }

  BlockStack<Recurrent> recurrent_;
  aviary::TokenCat<T> token_cat_;
  std::vector<Attention> attention_;
  aviary::NumberFormat format_;
  bool keep_keys_;
};

}  // namespace AVIARY_ISA
}  // namespace models
