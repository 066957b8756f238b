#pragma once
/// A conversation with a model: prompts that it reads, replies that it draws token by token, a context that stays.
#include <algorithm>
#include <filesystem>
#include <span>
#include <utility>

#include "models/reader.hpp"
#include "models/reply.hpp"
#include "models/text.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// Keeps a reference to the model. Equal seeds and prompts make equal replies, from the beginning or from a loaded state.
class Conversation {
 public:
  /// A prompt is read in blocks of so many tokens, between which progress is told.
  static constexpr Index block = Model::stretch;

  /// Throws std::invalid_argument for options outside of their range.
  Conversation(Reader& model, Text text, ReplyOptions options)
      : model_(model), text_(std::move(text)), reply_(std::move(options), text_) {}

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
    reply_.begin();
    Index made = 0;
    for (; made < length; ++made) {
      auto const id = reply_.next(model_.logits(), text_, show);
      if (!id) break;
      model_.step(*id);
    }
    reply_.finish(show);
    return made;
  }

  /// Forgets everything and draws as at the beginning.
  void reset() {
    model_.reset();
    reply_.reseed();
  }

  /// The context, in a file; a loaded one goes on with the seed. Errors are those of Model.
  void save(std::filesystem::path const& path) const { model_.save_state(path); }
  void load(std::filesystem::path const& path) {
    model_.load_state(path);
    reply_.reseed();
  }

 private:
  Reader& model_;
  Text text_;
  Reply reply_;
};

}  // namespace AVIARY_ISA
}  // namespace models
