#pragma once
/// What all RWKV generations share around their blocks:
///
///   x = LN_ln0(emb[token])        x = Block_i(x) for every i        logits = head . LN_ln_out(x)
#include <algorithm>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "aviary/layers/block.hpp"
#include "aviary/layers/embedding.hpp"
#include "models/context_file.hpp"
#include "models/threads.hpp"

namespace models {

/// A model of blocks of one type (aviary::Block<...>). Allocates nothing after construction, except to save.
template <class Block> class BlockModel : public Model {
 public:
  using T = typename Block::T;
  using State = std::vector<typename Block::State>;  ///< one per block

  struct Weights {
    aviary::Embedding<T> embedding;
    aviary::LayerNorm<T> ln0;
    std::vector<Block> blocks;  ///< at least one
    aviary::LayerNorm<T> ln_out;
    aviary::Linear<T> head;
  };

  /// A prompt is read in stretches of so many tokens: more make better use of the weights and take more memory.
  static constexpr Index stretch = 240;

  explicit BlockModel(Weights weights, Threads threads = Threads())
      : weights_(std::move(weights)),
        threads_(threads),
        x_(aviary::to_size(stretch * channels())),
        shared_(aviary::to_size(stretch * shared_channels())),
        scratch_(stretch * weights_.blocks.front().scratch_size()),
        logits_(aviary::to_size(vocab_size())),
        narrow_(std::is_same_v<T, float> ? 0 : logits_.size()) {  // empty from now on, with memory for all
    reset();
  }

  Index vocab_size() const noexcept override { return weights_.head.out(); }
  Index channels() const noexcept { return weights_.head.in(); }
  State const& state() const noexcept { return state_; }

  void reset() override {
    state_.clear();
    for (Block const& block : weights_.blocks) state_.push_back(block.empty_state());
    logits_.clear();
    narrow_.clear();
  }

  std::span<float const> logits() const noexcept override {
    if constexpr (std::is_same_v<T, float>)
      return logits_;
    else
      return narrow_;
  }

  std::span<float const> prefill(std::span<TokenId const> tokens) override {
    read(tokens);
    return logits();
  }

  /// prefill() in the model's own number type.
  std::span<T const> read(std::span<TokenId const> tokens) {
    check(tokens);
    for (; tokens.size() > aviary::to_size(stretch); tokens = tokens.subspan(aviary::to_size(stretch)))
      run_blocks(tokens.first(aviary::to_size(stretch)));
    T* const last = run_blocks(tokens)[static_cast<Index>(tokens.size()) - 1].data();
    weights_.ln_out({last, 1, channels()}, {last, 1, channels()});
    logits_.resize(aviary::to_size(vocab_size()));
    weights_.head({last, 1, channels()}, {logits_.data(), 1, vocab_size()}, threads_);
    narrow();
    return logits_;
  }

  std::any save() const override { return context(); }

  void restore(std::any const& state) override {
    auto const* const from = std::any_cast<Saved>(&state);
    if (from == nullptr || !same_shape(*from)) throw std::invalid_argument("this state belongs to another model");
    go_on_from(*from);
  }

  void save_state(std::filesystem::path const& path) const override { write_context(path, context(), vocab_size()); }

  void load_state(std::filesystem::path const& path) override {
    Saved saved{state_, {}};
    read_context(path, saved, vocab_size());
    go_on_from(saved);
  }

 private:
  using View = aviary::MatView<T>;
  using Saved = Context<typename Block::State, T>;

  Saved context() const { return {state_, logits_}; }
  /// Copies: a model keeps the memory that it has.
  void go_on_from(Saved const& saved) {
    state_ = saved.blocks;
    logits_ = saved.logits;
    narrow();
  }
  void narrow() {
    if constexpr (std::is_same_v<T, float>) return;
    narrow_.resize(logits_.size());
    aviary::convert(logits_.data(), narrow_.data(), static_cast<Index>(logits_.size()));
  }

  static bool same_shape(typename Block::State const& a, typename Block::State const& b) {
    return a.time_mix.x.size() == b.time_mix.x.size() && a.time_mix.s.size() == b.time_mix.s.size() &&
           a.channel_mix.x.size() == b.channel_mix.x.size();
  }
  bool same_shape(Saved const& other) const {
    return std::equal(state_.begin(), state_.end(), other.blocks.begin(), other.blocks.end(),
                      [](auto const& a, auto const& b) { return same_shape(a, b); }) &&
           (other.logits.empty() || static_cast<Index>(other.logits.size()) == vocab_size());
  }

  /// Columns of what blocks share: v_first in RWKV-7, nothing elsewhere.
  Index shared_channels() const noexcept {
    if constexpr (Block::TimeMix::shares_values)
      return weights_.blocks.front().time_mix().inner_channels();
    else
      return 0;
  }

  void check(std::span<TokenId const> tokens) const {
    if (tokens.empty()) throw std::invalid_argument("expected at least one token, found none");
    for (TokenId const token : tokens)
      if (token < 0 || token >= vocab_size())
        throw std::invalid_argument("expected token ids from 0 to " + std::to_string(vocab_size() - 1) + ", found " +
                                    std::to_string(token));
  }

  View run_blocks(std::span<TokenId const> tokens) {
    Index const count = static_cast<Index>(tokens.size());
    View const x(x_.data(), count, channels());
    weights_.embedding(tokens, x);
    weights_.ln0(x, x);
    for (std::size_t i = 0; i < state_.size(); ++i) {
      if constexpr (Block::TimeMix::shares_values)
        weights_.blocks[i](x, state_[i], scratch_, threads_, View(shared_.data(), count, shared_channels()));
      else
        weights_.blocks[i](x, state_[i], scratch_, threads_);
    }
    return x;
  }

  Weights weights_;
  Threads threads_;
  aviary::AlignedVector<T> x_, shared_;
  aviary::Scratch<T> scratch_;
  aviary::AlignedVector<T> logits_;  // none in an empty context
  std::vector<float> narrow_;        // the same, unless T is float
  State state_;
};

}  // namespace models
