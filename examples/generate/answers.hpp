#pragma once
/// Replies to the prompts of a file, on standard output as lines of JSON.
#include <deque>
#include <iostream>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "generate/console.hpp"
#include "generate/prompt_lines.hpp"
#include "models/batch.hpp"
#include "models/interruption.hpp"
#include "models/progress.hpp"

namespace generate {
inline namespace AVIARY_ISA {

using aviary::Index;

/// Takes prompts through a batch and prints what they become in the order of the file, each as soon as all before it are
/// printed.
class Answers {
 public:
  /// Keeps references to both.
  Answers(PromptLines& prompts, models::Batch& batch) : prompts_(prompts), batch_(batch) {}

  /// Returns how many prompts failed. Throws Interrupted and OutputFailed; what was printed is whole lines.
  Index run() {
    for (begin_prompts(); !batch_.is_empty(); begin_prompts()) {
      models::Interruption::check();
      batch_.advance([&](Index number, models::Batch::Result result) {
        made_ += static_cast<Index>(result.tokens.size());
        finish(number, std::move(result));
      });
    }
    progress_.clear();
    return failed_;
  }

  Index prompts() const noexcept { return first_ + static_cast<Index>(waiting_.size()); }
  Index tokens_read() const noexcept { return read_; }
  Index tokens_made() const noexcept { return made_; }

 private:
  struct Waiting {
    std::string id;
    std::optional<models::Batch::Result> result;
  };

  void begin_prompts() {
    while (!batch_.is_full()) {
      auto prompt = prompts_.next();
      if (!prompt) return;
      Index const number = prompts();
      waiting_.push_back({std::move(prompt->id), std::nullopt});
      try {
        if (!prompt->error.empty()) throw std::invalid_argument(prompt->error);
        auto tokens = prompt->text ? batch_.text().tokens(*prompt->text) : std::move(prompt->tokens);
        Index const count = static_cast<Index>(tokens.size());
        batch_.add(number, std::move(tokens));
        read_ += count;
      } catch (std::invalid_argument const& error) {
        models::Batch::Result result;
        result.error = error.what();
        finish(number, std::move(result));
      }
    }
  }

  void finish(Index number, models::Batch::Result result) {
    failed_ += result.error.empty() ? 0 : 1;
    waiting_[aviary::to_size(number - first_)].result = std::move(result);
    for (; !waiting_.empty() && waiting_.front().result; waiting_.pop_front(), ++first_) {
      auto const& [id, done] = waiting_.front();
      progress_.clear();
      print(json_line({aviary::to_size(first_), id, done->text, done->error, done->tokens, done->stopped}));
    }
    progress_(first_);
  }

  PromptLines& prompts_;
  models::Batch& batch_;
  models::Count progress_{std::cerr, "prompts", models::is_terminal(2)};
  std::deque<Waiting> waiting_;  // from prompt number first_ on
  Index first_ = 0, failed_ = 0, read_ = 0, made_ = 0;
};

}  // namespace AVIARY_ISA
}  // namespace generate
