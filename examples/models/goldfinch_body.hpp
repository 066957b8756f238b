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

  /// At least one block of each kind; `tokens` are run at once, at most. The format is that of the cache: bf16, f16, q8 or
  /// T's own.
  /// @throws std::invalid_argument for another format
  GoldFinchBody(BlockStack<Recurrent> recurrent, aviary::TokenCat<T> token_cat, std::vector<Attention> attention,
                Index tokens, aviary::NumberFormat format, bool keep_keys)
      : recurrent_(std::move(recurrent)),
        token_cat_(std::move(token_cat)),
        attention_(std::move(attention)),
        format_(format),
        keep_keys_(keep_keys),
        scratch_(std::max(exact_rows() * attention_scratch(), tokens * aviary::padded<T>(token_cat_.width()))),
        workspace_(attention_workspace()) {}

  Index channels() const noexcept { return token_cat_.channels(); }

  Context empty_context() const {
    Context context{recurrent_.empty_context(), empty_states(), empty_cache(), {}, {}};
    context.waiting.reserve(aviary::to_size(exact_rows() * channels()));
    if (keep_keys_)
      for (Attention const& block : attention_) context.rebuilt.push_back(block.time_mix().empty_rebuilt());
    return context;
  }

  void run(std::span<TokenId const> ids, aviary::MatView<T> x, Context& context, bool wants_last, Threads threads) {
    recurrent_.run(ids, x, context.recurrent, wants_last, threads);
    std::visit([&](auto& cache) { token_cat_.append(ids, x, cache, scratch_, threads); }, context.cache);
    wait(x, context);
    if (!wants_last) return;
    Index const waiting = static_cast<Index>(context.waiting.size()) / channels();
    aviary::MatView<T> const rows(context.waiting.data(), waiting, channels());
    std::visit([&](auto const& cache) { attend(rows, cache, context, threads); }, context.cache);
    std::copy_n(&rows(waiting - 1, 0), channels(), &x(x.rows() - 1, 0));
    context.waiting.clear();
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
      context.attention = empty_states();
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

  template <class C> void attend(aviary::MatView<T> rows, C const& cache, Context& context, Threads threads) {
    for (std::size_t i = 0; i < attention_.size(); ++i) {
      auto* const rebuilt = keep_keys_ ? &context.rebuilt[i] : nullptr;
      attention_[i](rows, context.attention[i], scratch_,
                    aviary::GoldContext(token_cat_, cache, rows.rows(), workspace_, rebuilt), threads);
    }
  }

  BlockStack<Recurrent> recurrent_;
  aviary::TokenCat<T> token_cat_;
  std::vector<Attention> attention_;
  aviary::NumberFormat format_;
  bool keep_keys_;
  aviary::Scratch<T> scratch_, workspace_;
};

}  // namespace AVIARY_ISA
}  // namespace models
