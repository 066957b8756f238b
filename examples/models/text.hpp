#pragma once
/// Token ids as what people read and write: text, or numbers with commas between them where nothing says which text they
/// are.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "aviary/io/tokenizer.hpp"
#include "models/model.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// The ids of "1,2,3"; nothing if the text is no such list.
inline std::optional<std::vector<TokenId>> ids_in(std::string_view text) {
  std::vector<TokenId> ids;
  for (;;) {
    std::string_view const number = text.substr(0, text.find(','));
    TokenId id = 0;
    auto const [end, error] = std::from_chars(number.data(), number.data() + number.size(), id);
    if (error != std::errc() || end != number.data() + number.size() || id < 0) return std::nullopt;
    ids.push_back(id);
    if (number.size() == text.size()) return ids;
    text.remove_prefix(number.size() + 1);
  }
}

/// The text of a model's tokens.
class Text {
 public:
  /// Serves a model of vocab_size tokens: with the words of a vocabulary, or else bytes where there are 256, or else ids.
  /// Throws std::invalid_argument for a vocabulary that is larger than the model's.
  explicit Text(Index vocab_size, std::optional<aviary::Vocabulary> words = std::nullopt)
      : vocab_size_(vocab_size), words_(std::move(words)) {
    if (words_ && words_->size() > vocab_size)
      throw std::invalid_argument("expected at most the model's " + std::to_string(vocab_size) +
                                  " tokens, found ids up to " + std::to_string(words_->size() - 1));
    if (words_)
      tokenizer_ = std::make_unique<aviary::WorldTokenizer>(*words_);
    else if (vocab_size == 256)
      tokenizer_ = std::make_unique<aviary::ByteTokenizer>();
  }

  Index vocab_size() const noexcept { return vocab_size_; }
  bool is_ids() const noexcept { return !tokenizer_; }

  /// The id that ends a text, if there is one.
  std::optional<TokenId> end_of_text() const noexcept { return tokenizer_ ? tokenizer_->end_of_text() : std::nullopt; }

  /// The tokens of a text. Throws std::invalid_argument with what is wrong with it.
  std::vector<TokenId> tokens(std::string_view text) const {
    if (tokenizer_) return tokenizer_->encode(text);
    if (text.empty()) return {};
    auto ids = ids_in(text);
    if (!ids)
      throw std::invalid_argument("expected token ids from 0 on, separated by commas, found " +
                                  aviary::in_quotes(text));
    check(*ids);
    return std::move(*ids);
  }

  /// Throws std::invalid_argument for ids that the model does not have.
  void check(std::span<TokenId const> ids) const {
    for (TokenId const id : ids)
      if (id < 0 || id >= vocab_size_)
        throw std::invalid_argument("expected token ids from 0 to " + std::to_string(vocab_size_ - 1) + ", found '" +
                                    std::to_string(id) + "'");
  }

  /// What a token of the model adds to the text, valid until the next call: none for ids that pad a vocabulary to a round
  /// number. A list of ids has a comma before each but the first.
  std::string_view operator()(TokenId id, bool first) noexcept {
    if (words_) return words_->bytes(id);
    if (tokenizer_) return tokenizer_->decode(id);
    number_[0] = ',';
    char const* const end = std::to_chars(number_.data() + 1, number_.data() + number_.size(), id).ptr;
    return {number_.data() + (first ? 1 : 0), end};
  }

  /// Bytes of the longest token.
  std::size_t longest() const noexcept {
    if (!words_) return is_ids() ? number_.size() : 1;
    std::size_t most = 0;
    for (TokenId id = 0; id < words_->size(); ++id) most = std::max(most, words_->bytes(id).size());
    return most;
  }

 private:
  Index vocab_size_;
  std::optional<aviary::Vocabulary> words_;
  std::unique_ptr<aviary::Tokenizer> tokenizer_;
  std::array<char, 12> number_;
};

}  // namespace AVIARY_ISA
}  // namespace models
