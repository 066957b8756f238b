#pragma once
/// A conversation with a model: prompts that it reads, replies that it draws token by token, a context that stays.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/model.hpp"
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

/// Keeps a reference to the model. Equal seeds and prompts make equal replies, from the beginning or from a loaded state.
class Conversation {
 public:
  /// A prompt is read in blocks of so many tokens, between which progress is told.
  static constexpr Index block = 256;

  /// Throws std::invalid_argument for options outside of their range.
  Conversation(Model& model, Text text, ReplyOptions options)
      : model_(model),
        text_(std::move(text)),
        stop_tokens_(std::move(options.stop_tokens)),
        stop_texts_(std::move(options.stop_texts), text_.longest()),
        seed_(options.seed),
        sample_(options.sampling, options.seed),
        penalties_(options.penalties, model.vocab_size()) {
    text_.check(stop_tokens_);
    if (auto const end = text_.end_of_text()) stop_tokens_.push_back(*end);
  }

  Text const& text() const noexcept { return text_; }
  std::span<float const> logits() const noexcept { return model_.logits(); }

  /// Reads tokens of the model, any number with the same memory. Without any, an empty context begins with token 0, the
  /// end of a text before. Calls progress(tokens read, all) before every block and at the end.
  template <class Progress> void read(std::span<TokenId const> tokens, Progress&& progress) {
    if (tokens.empty() && model_.logits().empty()) model_.step(0);
    Index const all = static_cast<Index>(tokens.size());
    for (Index at = 0; at < all; at += block) {
      progress(at, all);
      auto const next = tokens.subspan(aviary::to_size(at), aviary::to_size(std::min(all - at, block)));
      at + block < all ? model_.read_on(next) : static_cast<void>(model_.prefill(next));
    }
    progress(all, all);
  }

  /// Draws up to `length` tokens after what was read, reads them too, and calls show(text) as text comes.
  /// Returns the number of tokens read. Penalties begin anew with each reply. Allocates nothing after the first token.
  /// Throws std::runtime_error for logits that are no distribution.
  template <class Show> Index reply(Index length, Show&& show) {
    penalties_.clear();
    Index made = 0;
    while (made < length && !stop_texts_.found()) {
      TokenId const id = sample_(model_.logits(), penalties_);
      if (std::ranges::find(stop_tokens_, id) != stop_tokens_.end()) break;
      std::string_view const piece = text_(id, made == 0);
      penalties_.note(id, text_.is_ids() || is_counted(piece));
      show(stop_texts_(piece));
      model_.step(id);
      ++made;
    }
    show(stop_texts_.finish());
    return made;
  }

  /// Forgets everything and draws as at the beginning.
  void reset() {
    model_.reset();
    sample_.seed(seed_);
  }

  /// The context, in a file; a loaded one goes on with the seed. Errors are those of Model.
  void save(std::filesystem::path const& path) const { model_.save_state(path); }
  void load(std::filesystem::path const& path) {
    model_.load_state(path);
    sample_.seed(seed_);
  }

 private:
  Model& model_;
  Text text_;
  std::vector<TokenId> stop_tokens_;
  StopTexts stop_texts_;
  std::uint64_t seed_;
  Sampler sample_;
  Penalties penalties_;
};

}  // namespace AVIARY_ISA
}  // namespace models
