#pragma once
/// A language model as programs use it, whatever its generation.
#include <any>
#include <filesystem>
#include <span>

#include "aviary/core/config.hpp"
#include "aviary/io/vocabulary.hpp"

namespace models {
inline namespace AVIARY_ISA {

using aviary::Index;
using aviary::TokenId;

/// A model and the context that it has read so far. A context is one conversation; a saved state is a value that any
/// number of contexts may go on from.
class Model {
 public:
  /// A prompt is read in stretches of so many tokens: more make better use of the weights and take more memory.
  static constexpr Index stretch = 240;

  virtual ~Model() = default;

  virtual Index vocab_size() const noexcept = 0;

  /// Forgets everything.
  virtual void reset() = 0;

  /// The logits of the token that follows what was read, valid until the next call that reads or forgets; none in an empty
  /// context, and after read_on().
  virtual std::span<float const> logits() const noexcept = 0;

  /// Reads one token or more and returns the logits of the token that follows, valid until the next call.
  /// Throws std::invalid_argument, before anything is read, for no token or an id beyond the vocabulary.
  virtual std::span<float const> prefill(std::span<TokenId const> tokens) = 0;

  /// Reads tokens of a prompt, of which prefill() is to read the rest: the same without what only the last token's logits
  /// need. There are no logits until then. Of a prompt that is read in pieces, all but the last are for this.
  virtual void read_on(std::span<TokenId const> tokens) { prefill(tokens); }

  /// prefill() for one token.
  std::span<float const> step(TokenId token) { return prefill({&token, 1}); }

  /// Bytes of the part of the context that grows with every token; 0 where nothing does.
  virtual Index cache_bytes() const noexcept { return 0; }

  /// The context, a copy. restore() of a model with other weights throws std::invalid_argument.
  virtual std::any save() const = 0;
  virtual void restore(std::any const& state) = 0;

  /// The same in a safetensors file, which another program may go on from. save_state() throws std::runtime_error with path
  /// and reason, and leaves an older file as it was. load_state() throws std::runtime_error for a file that is damaged,
  /// holds no context, or that of a model with another memory, other shapes or other weights, with what was expected and
  /// found, and leaves the context as it was. What is loaded goes on to the same bits as what was saved, in a model of the same number type.
  virtual void save_state(std::filesystem::path const& path) const = 0;
  virtual void load_state(std::filesystem::path const& path) = 0;
};

}  // namespace AVIARY_ISA
}  // namespace models
