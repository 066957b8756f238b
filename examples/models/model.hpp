#pragma once
/// A language model as programs use it, whatever its generation.
#include <any>
#include <span>

#include "aviary/core/config.hpp"
#include "aviary/io/vocabulary.hpp"

namespace models {

using aviary::Index;
using aviary::TokenId;

/// A model and the context that it has read so far. A context is one conversation; a saved state is a value that any
/// number of contexts may go on from.
class Model {
 public:
  virtual ~Model() = default;

  virtual Index vocab_size() const noexcept = 0;

  /// Forgets everything.
  virtual void reset() = 0;

  /// Reads one token or more and returns the logits of the token that follows, valid until the next call.
  /// Throws std::invalid_argument, before anything is read, for no token or an id beyond the vocabulary.
  virtual std::span<float const> prefill(std::span<TokenId const> tokens) = 0;

  /// The same for one token.
  std::span<float const> step(TokenId token) { return prefill({&token, 1}); }

  /// The context, a copy. restore() of a model with other shapes throws std::invalid_argument.
  virtual std::any save() const = 0;
  virtual void restore(std::any const& state) = 0;
};

}  // namespace models
