#pragma once
/// Drawing a token from logits, as the published RWKV chat pipeline does:
///
///   p = softmax(logits - penalties)
///   1. temperature 0 keeps the largest p alone (all of them, where several are equal)
///   2. top_p: sorted in descending order, the first p at which the sum reaches top_p is the cutoff; smaller ones go
///   3. top_k, if not 0: all but the k largest go
///   4. what is left is drawn with weights p^(1 / temperature)
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "models/penalties.hpp"

namespace models {

struct SamplingOptions {
  double temperature = 1;  ///< from 0 on
  double top_p = 1;        ///< above 0, at most 1: keep all
  Index top_k = 0;         ///< 0: keep all
};

/// Equal seeds give equal tokens for equal logits, on every platform up to the last bits of exp.
class Sampler {
 public:
  /// Throws std::invalid_argument for options outside of their range.
  explicit Sampler(SamplingOptions options = {}, std::uint64_t seed = 0) : options_(options), random_(seed) {
    auto const fail = [](std::string const& what, double found) {
      throw std::invalid_argument("expected " + what + ", found " + std::to_string(found));
    };
    if (!(options.temperature >= 0 && std::isfinite(options.temperature)))
      fail("a temperature of at least 0", options.temperature);
    if (!(options.top_p > 0 && options.top_p <= 1)) fail("top-p above 0 and at most 1", options.top_p);
    if (options.top_k < 0) fail("top-k of at least 0", static_cast<double>(options.top_k));
  }

  /// Draws again what a new sampler of this seed would.
  void seed(std::uint64_t seed) { random_.seed(seed); }

  /// The penalties are for tokens that have logits. Allocates in the first call alone.
  /// Throws std::runtime_error for logits that are no distribution: one is NaN, all are -infinity, or there is none.
  TokenId operator()(std::span<float const> logits, Penalties const& penalties = {}) {
    collect(logits, penalties);
    bool const greedy = options_.temperature <= 0, by_sum = greedy || options_.top_p < 1;
    bool const by_count = options_.top_k > 0 && options_.top_k < static_cast<Index>(logits.size());
    if (by_sum || by_count) {  // a heap: most tokens need never be sorted
      std::make_heap(kept_.begin(), kept_.end(), less_likely);
      if (by_sum) keep_sum(greedy ? 0 : options_.top_p);
      if (by_count) keep(aviary::to_size(options_.top_k));
      std::sort(kept_.begin(), kept_.end(), [](auto const& a, auto const& b) { return a.token < b.token; });
    }
    return draw(greedy ? 1 : 1 / options_.temperature);
  }

 private:
  struct Candidate {
    double log_p;  ///< relative to the most likely token: 0 or less
    TokenId token;
  };
  static bool less_likely(Candidate const& a, Candidate const& b) {
    return a.log_p != b.log_p ? a.log_p < b.log_p : a.token > b.token;
  }

  void collect(std::span<float const> logits, Penalties const& penalties) {
    kept_.clear();
    sorted_ = 0;
    for (std::size_t i = 0; i < logits.size(); ++i) {
      if (std::isnan(logits[i])) throw std::runtime_error("a logit is not a number");
      kept_.push_back({double{logits[i]}, static_cast<TokenId>(i)});
    }
    penalties.for_each([&](TokenId token, double penalty) { kept_[static_cast<std::size_t>(token)].log_p -= penalty; });
    double largest = -std::numeric_limits<double>::infinity();
    for (Candidate const& c : kept_) largest = std::max(largest, c.log_p);
    if (std::isinf(largest) && largest < 0) throw std::runtime_error("no token has a logit above -infinity");
    for (Candidate& c : kept_) c.log_p = c.log_p < largest ? c.log_p - largest : 0;  // 0 where both are infinite
  }

  /// Moves the most likely token that is left to the sorted end of the heap.
  Candidate const& next() {
    std::pop_heap(kept_.begin(), heap_end(), less_likely);
    ++sorted_;
    return *heap_end();
  }
  bool has_next() const { return sorted_ < kept_.size(); }
  std::vector<Candidate>::iterator heap_end() { return kept_.end() - static_cast<std::ptrdiff_t>(sorted_); }

  /// Keeps the n most likely tokens, or all if there are fewer.
  void keep(std::size_t n) {
    while (sorted_ < n && has_next()) next();
    sorted_ = std::min(sorted_, n);
    kept_.erase(kept_.begin(), heap_end());
  }

  /// Keeps the most likely tokens whose probabilities reach the sum, and those that are as likely as the last of them.
  void keep_sum(double wanted) {
    double total = 0, sum = 0, cutoff = 0;
    for (Candidate const& c : kept_) total += std::exp(c.log_p);
    do {
      cutoff = next().log_p;
      sum += std::exp(cutoff) / total;
    } while (sum < wanted && has_next());
    while (has_next() && kept_.front().log_p >= cutoff) next();
    keep(sorted_);
  }

  TokenId draw(double power) {
    auto const weight = [power](Candidate const& c) { return c.log_p < 0 ? std::exp(c.log_p * power) : 1; };
    double total = 0;
    for (Candidate const& c : kept_) total += weight(c);
    double left = total * 0x1p-53 * static_cast<double>(random_() >> 11);
    TokenId last = kept_.front().token;  // what rounding leaves over is the last one's
    for (Candidate const& c : kept_) {
      double const w = weight(c);
      if (w > 0) last = c.token;
      if (left < w) break;
      left -= w;
    }
    return last;
  }

  SamplingOptions options_;
  std::mt19937_64 random_;
  std::vector<Candidate> kept_;  // a heap, then sorted_ tokens in ascending order
  std::size_t sorted_ = 0;
};

}  // namespace models
