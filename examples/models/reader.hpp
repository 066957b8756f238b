#pragma once
/// A model and one context that it reads into, for programs with one conversation.
#include <filesystem>
#include <memory>
#include <span>
#include <stdexcept>
#include <utility>

#include "models/model.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// Shares the model, and has a context and a workspace of its own.
class Reader {
 public:
  explicit Reader(std::shared_ptr<Model const> model)
      : model_(std::move(model)), workspace_(model_->make_workspace()), context_(model_->empty_context()) {}

  Model const& model() const noexcept { return *model_; }
  Index vocab_size() const noexcept { return model_->vocab_size(); }
  Context const& context() const noexcept { return context_; }
  std::span<float const> logits() const noexcept { return context_.logits(); }
  Index cache_bytes() const noexcept { return context_.cache_bytes(); }

  /// Forgets everything.
  void reset() { model_->reset(context_); }

  /// Reads one token or more and returns the logits of the token that follows, valid until the next call. Errors are those of
  /// Model::advance.
  std::span<float const> prefill(std::span<TokenId const> tokens) {
    model_->advance({{.context = &context_, .tokens = tokens}}, *workspace_);
    return logits();
  }
  /// Reads tokens of a prompt, of which prefill() is to read the rest: the same without what only logits need.
  void read_on(std::span<TokenId const> tokens) {
    model_->advance({{.context = &context_, .tokens = tokens, .wants_logits = false}}, *workspace_);
  }
  /// prefill() for one token.
  std::span<float const> step(TokenId token) { return prefill({&token, 1}); }

  /// The context, a copy. restore() throws std::invalid_argument for that of another model.
  Context save() const { return context_; }
  void restore(Context const& context) {
    if (!model_->owns(context)) throw std::invalid_argument("this state belongs to another model");
    context_ = context;
  }
  /// The same in a file. Errors are those of Model.
  void save_state(std::filesystem::path const& path) const { model_->save(context_, path); }
  void load_state(std::filesystem::path const& path) { model_->load(context_, path); }

 private:
  std::shared_ptr<Model const> model_;
  std::unique_ptr<Workspace> workspace_;
  Context context_;
};

}  // namespace AVIARY_ISA
}  // namespace models
