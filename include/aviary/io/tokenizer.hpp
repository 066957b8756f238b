#pragma once
/// Text to token ids and back: the greedy tokenizer of the World vocabulary, and bytes as they are.
///   std::unique_ptr<Tokenizer> tokenizer = std::make_unique<WorldTokenizer>(Vocabulary::read_world(path));
///   std::vector<TokenId> ids = tokenizer->encode("Hello");
#include <algorithm>
#include <array>
#include <cstddef>
#include <filesystem>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aviary/core/config.hpp"
#include "aviary/io/byte_trie.hpp"
#include "aviary/io/vocabulary.hpp"

namespace AVIARY_NAMESPACE {

/// What all tokenizers do. Text is bytes: usually UTF-8, never normalised, and a token may end inside a character.
/// Const members may be called from many threads at once.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// The ids of the text; decode gives the text back.
  /// Throws std::invalid_argument with byte and position where no token fits.
  std::vector<TokenId> encode(std::string_view text) const {
    std::vector<TokenId> ids;
    ids.reserve(text.size() / 4 + 1);
    append(text, ids);
    return ids;
  }

  /// The bytes of an id, none for the end of text; valid as long as the tokenizer is neither moved nor destroyed.
  /// Throws std::invalid_argument for an id that the vocabulary does not know.
  std::string_view decode(TokenId id) const { return bytes(id); }

  /// The bytes of all ids, one after the other.
  std::string decode(std::span<TokenId const> ids) const {
    std::string text;
    for (TokenId const id : ids) text += bytes(id);
    return text;
  }

  /// Ids lie in [0, size): a model needs at least so many rows of embedding and logits.
  virtual Index size() const noexcept = 0;

  /// The id that ends a text, if there is one.
  virtual std::optional<TokenId> end_of_text() const noexcept = 0;

 protected:
  Tokenizer() = default;
  Tokenizer(Tokenizer const&) = default;
  Tokenizer(Tokenizer&&) = default;
  Tokenizer& operator=(Tokenizer const&) = default;
  Tokenizer& operator=(Tokenizer&&) = default;

  [[noreturn]] void refuse(TokenId id) const {
    throw std::invalid_argument("expected a token id below " + std::to_string(size()) +
                                " that stands for text, found " + std::to_string(id));
  }

 private:
  virtual void append(std::string_view text, std::vector<TokenId>& ids) const = 0;
  virtual std::string_view bytes(TokenId id) const = 0;
};

/// Takes the longest token that fits, again and again.  Cost: one memory access a byte and one a token, whatever the
/// vocabulary. The published vocabulary of 65 529 tokens takes about 4 MB.
class WorldTokenizer final : public Tokenizer {
 public:
  /// Throws std::invalid_argument for tokens that are too long: all together have at most 2^20 bytes, or 32 times their
  /// number. (A byte that begins no other token takes some 20 bytes of memory. Published tokens have 6 on average.)
  explicit WorldTokenizer(Vocabulary vocabulary) : vocabulary_(std::move(vocabulary)), trie_(entries(vocabulary_)) {}

  Index size() const noexcept override { return vocabulary_.size(); }
  std::optional<TokenId> end_of_text() const noexcept override { return 0; }

 private:
  static std::vector<ByteTrie::Entry> entries(Vocabulary const& vocabulary) {
    std::vector<ByteTrie::Entry> entries;
    std::size_t bytes = 0;
    for (TokenId id = 0; id < vocabulary.size(); ++id)
      if (vocabulary.contains(id))
        bytes += entries.emplace_back(ByteTrie::Entry{vocabulary.bytes(id), id}).bytes.size();
    if (std::size_t const most = std::max(std::size_t{1} << 20, 32 * entries.size()); bytes > most)
      throw std::invalid_argument("expected " + std::to_string(entries.size()) + " tokens of at most " +
                                  std::to_string(most) + " bytes in all, found " + std::to_string(bytes));
    return entries;
  }

  void append(std::string_view text, std::vector<TokenId>& ids) const override {
    std::size_t const before = ids.size();
    if (trie_.cut(text, ids)) return;
    std::size_t at = 0;
    for (TokenId const id : std::span(ids).subspan(before)) at += vocabulary_.bytes(id).size();
    throw std::invalid_argument("no token begins with byte " + std::to_string(static_cast<unsigned char>(text[at])) +
                                " at position " + std::to_string(at) + " of the text");
  }

  std::string_view bytes(TokenId id) const override {
    if (id != 0 && !vocabulary_.contains(id)) refuse(id);
    return vocabulary_.bytes(id);
  }

  Vocabulary vocabulary_;
  ByteTrie trie_;
};

/// Every byte is the token of its value; there is no end of text.
class ByteTokenizer final : public Tokenizer {
 public:
  Index size() const noexcept override { return static_cast<Index>(all_bytes.size()); }
  std::optional<TokenId> end_of_text() const noexcept override { return std::nullopt; }

 private:
  static constexpr std::array<char, 256> all_bytes = [] {
    std::array<char, 256> all{};
    for (std::size_t i = 0; i < all.size(); ++i) all[i] = static_cast<char>(i);
    return all;
  }();

  void append(std::string_view text, std::vector<TokenId>& ids) const override {
    for (char const c : text) ids.push_back(static_cast<unsigned char>(c));
  }

  std::string_view bytes(TokenId id) const override {
    if (id < 0 || id >= size()) refuse(id);
    return {&all_bytes[static_cast<std::size_t>(id)], 1};
  }
};

}  // namespace AVIARY_NAMESPACE
