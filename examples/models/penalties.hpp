#pragma once
/// Penalties for tokens that were drawn before, as the published RWKV chat pipeline has them:
///
///   logit[n] -= presence + frequency count[n]        for every token n that was drawn
///
/// With every token drawn all counts shrink by the factor `decay`, then that of the token grows by 1. Tokens whose text
/// is a piece of blank, tab, 0123456789 leave their count as it is: indentation and digits repeat for good reasons.
/// Tokens of the prompt do not count.
#include <cmath>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "models/model.hpp"

namespace models {
inline namespace AVIARY_ISA {

struct PenaltyOptions {
  double presence = 0;   ///< finite, as a float as well
  double frequency = 0;  ///< finite, as a float as well
  double decay = 0.996;  ///< 0 ... 1
};

/// Whether tokens of this text are counted.
constexpr bool is_counted(std::string_view text) noexcept {
  return std::string_view(" \t0123456789").find(text) == std::string_view::npos;
}

/// Which tokens were drawn, and how often. Cost: a few operations a token for each distinct token drawn, none if neither
/// penalty is set; allocates at construction alone.
class Penalties {
 public:
  /// No penalties.
  Penalties() = default;

  /// Counts tokens 0 ... vocab_size - 1. Throws std::invalid_argument for options outside of their range.
  Penalties(PenaltyOptions options, Index vocab_size) : options_(options) {
    auto const fail = [](std::string const& what, double found) {
      throw std::invalid_argument("expected " + what + ", found " + std::to_string(found));
    };
    for (double const penalty : {options.presence, options.frequency})
      if (!std::isfinite(static_cast<float>(penalty))) fail("a finite penalty", penalty);
    if (!(options.decay >= 0 && options.decay <= 1)) fail("a decay of penalties from 0 to 1", options.decay);
    if (options.presence == 0 && options.frequency == 0) return;
    places_.assign(aviary::to_size(vocab_size), none);
    drawn_.reserve(aviary::to_size(vocab_size));
  }

  /// The token was drawn; `counted` says whether its text is_counted.
  void note(TokenId token, bool counted) noexcept {
    if (places_.empty()) return;
    for (Drawn& drawn : drawn_) drawn.count *= options_.decay;
    Index& place = places_[static_cast<std::size_t>(token)];
    if (place == none) {
      place = static_cast<Index>(drawn_.size());
      drawn_.push_back({token, 0});
    }
    drawn_[aviary::to_size(place)].count += counted ? 1 : 0;
  }

  /// Nothing was drawn.
  void clear() noexcept {
    for (Drawn const& drawn : drawn_) places_[static_cast<std::size_t>(drawn.token)] = none;
    drawn_.clear();
  }

  /// f(token, penalty) for every token that was drawn, in order of their first time.
  template <class F> void for_each(F&& f) const {
    for (Drawn const& drawn : drawn_) f(drawn.token, options_.presence + options_.frequency * drawn.count);
  }

 private:
  struct Drawn {
    TokenId token;
    double count;
  };
  static constexpr Index none = -1;

  PenaltyOptions options_;
  std::vector<Index> places_;  // in drawn_, by token; empty without penalties
  std::vector<Drawn> drawn_;
};

}  // namespace AVIARY_ISA
}  // namespace models
