#pragma once
/// A language model as programs use it, whatever its generation.
///
///     std::shared_ptr<models::Model const> model = ...;             weights, which any number of threads may share
///     models::Context context = model->empty_context();             a conversation: a value
///     auto const workspace = model->make_workspace();               for one thread
///     model->advance({{.context = &context, .tokens = prompt}}, *workspace);
///     ... context.logits() ...
///
/// Reader (reader.hpp) holds all three for programs with one conversation.
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <span>
#include <utility>

#include "aviary/core/config.hpp"
#include "aviary/io/vocabulary.hpp"

namespace models {
inline namespace AVIARY_ISA {

using aviary::Index;
using aviary::TokenId;

/// What a context is made of, which only its model knows.
class HeldContext {
 public:
  virtual ~HeldContext() = default;
  virtual std::unique_ptr<HeldContext> copy() const = 0;
  /// Becomes a copy of another, in the memory that it has, if both are of one kind of model. What is allocated is so before
  /// anything changes.
  virtual bool assign(HeldContext const& other) = 0;
  virtual std::span<float const> logits() const noexcept = 0;
  virtual Index cache_bytes() const noexcept = 0;

 protected:
  HeldContext() = default;
  HeldContext(HeldContext const&) = default;
  HeldContext& operator=(HeldContext const&) = default;
};

/// What a model has read: a conversation. It is a value, of which copies go on by themselves. It comes from
/// Model::empty_context().
class Context {
 public:
  explicit Context(std::unique_ptr<HeldContext> held) noexcept : held_(std::move(held)) {}
  Context(Context const& other) : held_(other.held_->copy()) {}
  Context(Context&&) noexcept = default;
  Context& operator=(Context const& other) {
    if (held_ == nullptr || !held_->assign(*other.held_)) held_ = other.held_->copy();
    return *this;
  }
  Context& operator=(Context&&) noexcept = default;

  /// The logits of the token that follows what was read, valid until the context is read into or assigned to. None in an empty
  /// context, and where the last call wanted none.
  std::span<float const> logits() const noexcept { return held_->logits(); }
  /// Bytes of the part that grows with every token; 0 where nothing does.
  Index cache_bytes() const noexcept { return held_->cache_bytes(); }

  HeldContext& held() noexcept { return *held_; }
  HeldContext const& held() const noexcept { return *held_; }

 private:
  std::unique_ptr<HeldContext> held_;  // null once it is moved from
};

/// What calls of one thread compute with, from Model::make_workspace().
class Workspace {
 public:
  virtual ~Workspace() = default;
};

/// What a context reads in a call.
struct Turn {
  Context* context;
  std::span<TokenId const> tokens;  ///< at least one
  bool wants_logits = true;  ///< false for all but the last piece of a prompt: what only its logits need is left out
};

/// Weights. All calls are const, and may run in several threads at once, with a workspace and contexts of their own.
class Model {
 public:
  /// Tokens go through the model in stretches of so many: their numbers stay in a second-level cache, and more of them would
  /// make better use of the weights. A multiple of 32, as matrix units multiply rows, and of what memories group: whole
  /// groups, so that pieces of a prompt of this length have the bits of the whole.
  static constexpr Index stretch = 96;

  virtual ~Model() = default;

  virtual Index vocab_size() const noexcept = 0;

  virtual Context empty_context() const = 0;
  /// Makes a context of this model empty, in the memory that it has.
  virtual void reset(Context& context) const = 0;

  /// A workspace for calls with up to so many contexts; with more it grows.
  virtual std::unique_ptr<Workspace> make_workspace(Index contexts = 1) const = 0;

  /// Advances any number of contexts, each by any number of tokens: weights are read once for all of them. A context gets the
  /// same bits alone and among others. Allocates nothing but what a context's cache needs.
  /// Throws std::invalid_argument, before anything is read, for no token, an id beyond the vocabulary, a context that has two
  /// turns, and a context or workspace of another model. Other errors leave the contexts of the call in between: forget them.
  virtual void advance(std::span<Turn const> turns, Workspace& workspace) const = 0;
  void advance(std::initializer_list<Turn> turns, Workspace& workspace) const {
    advance(std::span(turns.begin(), turns.size()), workspace);
  }
  /// Throws what advance() throws for tokens.
  virtual void check(std::span<TokenId const> tokens) const = 0;

  /// Whether a context is one of this model: of its shapes and weights.
  virtual bool owns(Context const& context) const noexcept = 0;

  /// A context in a safetensors file, which another program may go on from. save() throws std::runtime_error with path
  /// and reason, and leaves an older file as it was. load() throws std::runtime_error for a file that is damaged, holds no
  /// context, or that of a model with another memory, other shapes or other weights, with what was expected and found, and
  /// leaves the context as it was. What is loaded goes on to the same bits as what was saved, in a model of the same number
  /// type.
  virtual void save(Context const& context, std::filesystem::path const& path) const = 0;
  virtual void load(Context& context, std::filesystem::path const& path) const = 0;
};

}  // namespace AVIARY_ISA
}  // namespace models
