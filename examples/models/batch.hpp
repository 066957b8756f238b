#pragma once
/// Replies to many prompts at once, with one model: some contexts read while others are replied to, and every weight is read
/// once for all of them.

#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "models/model.hpp"
#include "models/reply.hpp"

namespace models {
inline namespace AVIARY_ISA {

/// A prompt's reply has the text that it has alone, in a Conversation with the same options.
class Batch {
 public:
  /// What a prompt became.
  struct Result {
    std::vector<TokenId> tokens;  ///< of the reply
    std::string text;
    bool stopped = false;  ///< before its length, by an end of text, a stop token or a stop text
    std::string error;     ///< what went wrong with this prompt alone; empty: nothing
  };

  /// @param contexts  how many prompts are dealt with at a time     @param length  of replies, in tokens, at most
  /// @param first  what every prompt goes on from
  /// Throws std::invalid_argument for options outside of their range.
  Batch(std::shared_ptr<Model const> model, Text text, ReplyOptions const& options, Index length, Index contexts,
        Context first)
      : model_(std::move(model)),
        text_(std::move(text)),
        length_(length),
        first_(std::move(first)),
        workspace_(model_->make_workspace(contexts)) {
    for (Index i = 0; i < contexts; ++i) places_.push_back({first_, Reply(options, text_)});
    turns_.reserve(places_.size());
  }

  Text const& text() const noexcept { return text_; }
  bool is_full() const noexcept { return busy_ == places_.size(); }
  bool is_empty() const noexcept { return busy_ == 0; }

  /// Takes a prompt, of which results are told under its number; there must be a place for it. Without tokens, an empty context
  /// begins with token 0, the end of a text before. Throws std::invalid_argument for ids that the model does not have.
  void add(Index number, std::vector<TokenId> tokens) {
    text_.check(tokens);
    Place* place = places_.data();
    while (place->busy) ++place;
    place->context = first_;
    place->reply.begin();
    place->reply.reseed();
    place->number = number;
    place->tokens = std::move(tokens);
    if (place->tokens.empty() && first_.logits().empty()) place->tokens.push_back(0);
    place->read = 0;
    place->result = {};
    place->busy = true;
    ++busy_;
  }

  /// Takes every prompt a step further: a piece of what is to be read, or a token of the reply. Calls done(number, result) for
  /// those that end. Errors of memory concern all of them, and are thrown.
  template <class Done> void advance(Done&& done) {
    turns_.clear();
    for (Place& place : places_) {
      if (!place.busy) continue;
      if (place.read == place.tokens.size() && !draw(place)) {
        place.busy = false;
        --busy_;
        done(place.number, std::move(place.result));
        continue;
      }
      auto const piece = std::span(place.tokens)
                             .subspan(place.read)
                             .first(std::min(place.tokens.size() - place.read, aviary::to_size(Model::stretch)));
      place.read += piece.size();
      turns_.push_back({&place.context, piece, place.read == place.tokens.size()});
    }
    model_->advance(turns_, *workspace_);
  }

 private:
  struct Place {
    Context context;
    Reply reply;
    Index number = 0;
    std::vector<TokenId> tokens = {};  // that are to be read: the prompt, or one of the reply
    std::size_t read = 0;
    Result result = {};
    bool busy = false;
  };

  /// Draws a token, which is to be read unless it is the last. False at the end of the reply.
  bool draw(Place& place) {
    auto const show = [&](std::string_view text) { place.result.text += text; };
    try {
      if (auto const id = length_ > 0 ? place.reply.next(place.context.logits(), text_, show) : std::nullopt) {
        place.result.tokens.push_back(*id);
        place.tokens.assign(1, *id);
        place.read = 0;
        if (static_cast<Index>(place.result.tokens.size()) < length_) return true;
      } else {
        place.result.stopped = length_ > 0;
      }
    } catch (std::runtime_error const& error) {
      place.result.error = error.what();
    }
    place.reply.finish(show);
    return false;
  }

  std::shared_ptr<Model const> model_;
  Text text_;
  Index length_;
  Context first_;
  std::unique_ptr<Workspace> workspace_;
  std::vector<Place> places_;
  std::size_t busy_ = 0;
  std::vector<Turn> turns_;
};

}  // namespace AVIARY_ISA
}  // namespace models
