#pragma once
/// What all models share around their layers:
///
///   x = LN_ln0(emb[token])        x = Body(x)        logits = head . LN_ln_out(x)
#include <algorithm>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "aviary/dense/linear.hpp"
#include "aviary/layers/embedding.hpp"
#include "aviary/layers/norm.hpp"
#include "models/context_file.hpp"
#include "models/threads.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// A model around a Body, which has
///
///   T, Context                         its number type, and what it has read: a value
///   channels(), empty_context()
///   run(ids, x, context, wants, threads)  takes x (tokens, C), at most `stretch` of them, through its layers in place; where
///                                      the last row is wanted, it must be right, else the context alone
///   same_shape(a, b)                   whether contexts are those of models of one shape
///   description(), write(to, context), read(from, context)  for files, see context_file.hpp
///
/// Allocates nothing after construction, except to save, and what the body says.
template <class Body> class LanguageModel : public Model {
 public:
  using T = typename Body::T;

  struct Weights {
    aviary::Embedding<T> embedding;
    aviary::LayerNorm<T> ln0;
    Body body;
    aviary::LayerNorm<T> ln_out;
    aviary::Linear<T> head;
    aviary::Fingerprint fingerprint = {};  ///< of all of these, as the checkpoint has them
  };

  explicit LanguageModel(Weights weights, Threads threads = Threads())
      : weights_(std::move(weights)),
        threads_(threads),
        x_(aviary::to_size(stretch * channels())),
        logits_(aviary::to_size(vocab_size())),
        narrow_(std::is_same_v<T, float> ? 0 : logits_.size()),  // empty from now on, with memory for all
        context_(weights_.body.empty_context()) {
    forget_logits();
  }

  Index vocab_size() const noexcept override { return weights_.head.out(); }
  Index channels() const noexcept { return weights_.head.in(); }
  typename Body::Context const& context() const noexcept { return context_; }

  void reset() override {
    context_ = weights_.body.empty_context();
    forget_logits();
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
    View const last = run(tokens, true);
    weights_.ln_out(last, last);
    logits_.resize(aviary::to_size(vocab_size()));
    weights_.head(last, {logits_.data(), 1, vocab_size()}, threads_);
    narrow();
    return logits_;
  }

  void read_on(std::span<TokenId const> tokens) override {
    run(tokens, false);
    forget_logits();
  }

  Index cache_bytes() const noexcept override {
    if constexpr (requires { context_.cache_bytes(); })
      return context_.cache_bytes();
    else
      return 0;
  }

  std::any save() const override { return saved(); }

  void restore(std::any const& state) override {
    auto const* const from = std::any_cast<Saved>(&state);
    if (from == nullptr || !is_of_this(*from)) throw std::invalid_argument("this state belongs to another model");
    go_on_from(*from);
  }

  void save_state(std::filesystem::path const& path) const override {
    write_context(path, weights_.body, saved(), vocab_size());
  }

  void load_state(std::filesystem::path const& path) override {
    Saved loaded{context_, {}, weights_.fingerprint};
    read_context(path, weights_.body, loaded, vocab_size());
    go_on_from(loaded);
  }

 private:
  using View = aviary::MatView<T>;
  using Saved = SavedContext<typename Body::Context, T>;

  Saved saved() const { return {context_, logits_, weights_.fingerprint}; }

  /// Copies: a model keeps the memory that it has. What is allocated is so before anything changes.
  void go_on_from(Saved const& saved) {
    if constexpr (requires { context_.make_room(saved.context); }) context_.make_room(saved.context);
    context_ = saved.context;
    logits_ = saved.logits;
    narrow();
  }
  void narrow() {
    if constexpr (std::is_same_v<T, float>) return;
    narrow_.resize(logits_.size());
    aviary::convert(logits_.data(), narrow_.data(), static_cast<Index>(logits_.size()));
  }
  void forget_logits() {
    logits_.clear();
    narrow_.clear();
  }

  bool is_of_this(Saved const& other) const {
    return other.weights == weights_.fingerprint && weights_.body.same_shape(context_, other.context) &&
           (other.logits.empty() || static_cast<Index>(other.logits.size()) == vocab_size());
  }

  void check(std::span<TokenId const> tokens) const {
    if (tokens.empty()) throw std::invalid_argument("expected at least one token, found none");
    for (TokenId const token : tokens)
      if (token < 0 || token >= vocab_size())
        throw std::invalid_argument("expected token ids from 0 to " + std::to_string(vocab_size() - 1) + ", found " +
                                    std::to_string(token));
  }

  /// Runs all tokens, by stretches. Returns the row of the last one, which is right where it is wanted.
  View run(std::span<TokenId const> tokens, bool wants_last) {
    check(tokens);
    View x(x_.data(), 0, channels());
    for (; !tokens.empty(); tokens = tokens.subspan(aviary::to_size(x.rows()))) {
      auto const ids = tokens.first(std::min(tokens.size(), aviary::to_size(stretch)));
      x = {x_.data(), static_cast<Index>(ids.size()), channels()};
      weights_.embedding(ids, x);
      weights_.ln0(x, x);
      weights_.body.run(ids, x, context_, wants_last && ids.size() == tokens.size(), threads_);
    }
    return x.rows(x.rows() - 1, 1);
  }

  Weights weights_;
  Threads threads_;
  aviary::AlignedVector<T> x_;
  aviary::AlignedVector<T> logits_;  // none in an empty context
  std::vector<float> narrow_;        // the same, unless T is float
  typename Body::Context context_;
};

}  // namespace AVIARY_ISA
}  // namespace models
