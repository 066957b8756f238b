#pragma once
/// Numbers and their answers as tokens: "123,321."
#include <algorithm>
#include <span>
#include <vector>

#include "aviary/training/random.hpp"
#include "models/learner.hpp"

namespace reverse {

using aviary::Index;
using aviary::SplitMix64;
using aviary::to_size;
using models::TokenId;

/// Digits are tokens 0 to 9. The comma ends a number, the stop its answer.
inline constexpr TokenId comma = 10, stop = 11;
inline constexpr Index vocab = 12;

/// A number's digits, the highest first; all are drawn evenly, the first as well. With the comma it is a prompt.
inline std::vector<TokenId> random_prompt(Index digits, SplitMix64& random) {
  std::vector<TokenId> prompt;
  for (Index i = 0; i < digits; ++i) prompt.push_back(static_cast<TokenId>(random.next() % 10));
  prompt.push_back(comma);
  return prompt;
}

/// The digits of a prompt in reverse, and the stop.
inline std::vector<TokenId> answer_to(std::span<TokenId const> prompt) {
  std::vector<TokenId> answer(prompt.rbegin() + 1, prompt.rend());
  answer.push_back(stop);
  return answer;
}

/// Prompts with their answers, each a sequence of its own. The loss counts the answers alone.
class Examples {
 public:
  void clear() { tokens_.clear(), targets_.clear(), offsets_.assign(1, 0); }
  void add(std::span<TokenId const> prompt) {
    std::vector<TokenId> const answer = answer_to(prompt);
    tokens_.insert(tokens_.end(), prompt.begin(), prompt.end());
    tokens_.insert(tokens_.end(), answer.begin(), answer.end() - 1);  // nothing follows the stop
    targets_.insert(targets_.end(), prompt.size() - 1, -1);
    targets_.insert(targets_.end(), answer.begin(), answer.end());
    offsets_.push_back(static_cast<Index>(tokens_.size()));
  }
  models::Batch batch() const { return {.tokens = tokens_, .targets = targets_, .offsets = offsets_}; }

 private:
  std::vector<TokenId> tokens_, targets_;
  std::vector<Index> offsets_{0};
};

}  // namespace reverse
