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
#include "models/model.hpp"
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
  static constexpr Index stretch = 64;

  explicit BlockModel(Weights weights, Threads threads = Threads())
      : weights_(std::move(weights)),
        threads_(threads),
        x_(aviary::to_size(stretch * channels())),
        shared_(aviary::to_size(stretch * shared_channels())),
        scratch_(stretch * weights_.blocks.front().scratch_size()),
        logits_(aviary::to_size(vocab_size())),
        narrow_(std::is_same_v<T, float> ? 0 : logits_.size()) {
    reset();
  }

  Index vocab_size() const noexcept override { return weights_.head.out(); }
  Index channels() const noexcept { return weights_.head.in(); }
  State const& state() const noexcept { return state_; }

  void reset() override {
    state_.clear();
    for (Block const& block : weights_.blocks) state_.push_back(block.empty_state());
  }

  std::span<float const> prefill(std::span<TokenId const> tokens) override {
    std::span<T const> const logits = read(tokens);
    if constexpr (std::is_same_v<T, float>) {
      return logits;
    } else {
      aviary::convert(logits.data(), narrow_.data(), vocab_size());
      return narrow_;
    }
  }

  /// prefill() in the model's own number type.
  std::span<T const> read(std::span<TokenId const> tokens) {
    check(tokens);
    for (; tokens.size() > aviary::to_size(stretch); tokens = tokens.subspan(aviary::to_size(stretch)))
      run_blocks(tokens.first(aviary::to_size(stretch)));
    T* const last = run_blocks(tokens)[static_cast<Index>(tokens.size()) - 1].data();
    weights_.ln_out({last, 1, channels()}, {last, 1, channels()});
    weights_.head({last, 1, channels()}, {logits_.data(), 1, vocab_size()}, threads_);
    return logits_;
  }

  std::any save() const override { return state_; }

  void restore(std::any const& state) override {
    auto const* const from = std::any_cast<State>(&state);
    if (from == nullptr || !same_shape(*from)) throw std::invalid_argument("this state belongs to another model");
    state_ = *from;
  }

 private:
  using View = aviary::MatView<T>;

  static bool same_shape(typename Block::State const& a, typename Block::State const& b) {
    return a.time_mix.x.size() == b.time_mix.x.size() && a.time_mix.s.size() == b.time_mix.s.size() &&
           a.channel_mix.x.size() == b.channel_mix.x.size();
  }
  bool same_shape(State const& other) const {
    return std::equal(state_.begin(), state_.end(), other.begin(), other.end(),
                      [](auto const& a, auto const& b) { return same_shape(a, b); });
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
  aviary::AlignedVector<T> logits_;
  std::vector<float> narrow_;
  State state_;
};

}  // namespace models
