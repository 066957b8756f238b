#pragma once
/// Replies, drawn token by token.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/sampling.hpp"
#include "models/stop_texts.hpp"
#include "models/text.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// How replies are drawn, and what ends them besides their length and the end of the text.
struct ReplyOptions {
  SamplingOptions sampling = {};
  PenaltyOptions penalties = {};
  std::uint64_t seed = 0;
  std::vector<TokenId> stop_tokens = {};     ///< neither shown nor read
  std::vector<std::string> stop_texts = {};  ///< not shown; the model reads the token that completes one
};

/// One reply after another. Equal seeds and logits make equal replies.
class Reply {
 public:
  /// Throws std::invalid_argument for options outside of their range.
  Reply(ReplyOptions options, Text const& text)
      : stop_tokens_(std::move(options.stop_tokens)),
        stop_texts_(std::move(options.stop_texts), text.longest()),
        seed_(options.seed),
        sample_(options.sampling, options.seed),
        penalties_(options.penalties, text.vocab_size()) {
    text.check(stop_tokens_);
    if (auto const end = text.end_of_text()) stop_tokens_.push_back(*end);
  }

  /// Begins a reply: penalties begin anew, the random numbers go on.
  void begin() {
    penalties_.clear();
    made_ = 0;
  }
  /// Draws as at the beginning.
  void reseed() { sample_.seed(seed_); }

  /// Draws the next token, which the model is to read, and calls show(text) with what may be shown. Nothing if the reply has
  /// ended. Allocates in its first call alone. Throws std::runtime_error for logits that are no distribution.
  template <class Show> std::optional<TokenId> next(std::span<float const> logits, Text& text, Show&& show) {
    if (stop_texts_.found()) return std::nullopt;
    TokenId const id = sample_(logits, penalties_);
    if (std::ranges::find(stop_tokens_, id) != stop_tokens_.end()) return std::nullopt;
    std::string_view const piece = text(id, made_++ == 0);
    penalties_.note(id, text.is_ids() || is_counted(piece));
    show(stop_texts_(piece));
    return id;
  }
  /// Ends a reply: calls show(text) with what was held back.
  template <class Show> void finish(Show&& show) { show(stop_texts_.finish()); }

 private:
  std::vector<TokenId> stop_tokens_;
  StopTexts stop_texts_;
  std::uint64_t seed_;
  Sampler sample_;
  Penalties penalties_;
  Index made_ = 0;
};

}  // namespace AVIARY_ISA
}  // namespace models
