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
#include <numeric>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "aviary/simd/pack.hpp"
#include "models/penalties.hpp"

namespace models {
inline namespace AVIARY_ISA {

struct SamplingOptions {
  double temperature = 1;  ///< from 0 on
  double top_p = 1;        ///< above 0, at most 1: keep all
  Index top_k = 0;         ///< 0: keep all
};

/// Equal seeds give equal tokens for equal logits, on every platform up to the last bits of exp and sums.
/// Cost: a few passes over the logits, one of them an exponential each; only tokens that top-p may keep are sorted.
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
    set_log_p(logits, penalties);
    bool const greedy = options_.temperature <= 0, by_sum = !greedy && options_.top_p < 1;
    bool const by_count = options_.top_k > 0 && options_.top_k < static_cast<Index>(logits.size());
    double const total = by_sum ? aviary::simd::sum(size(log_p_), exp_of_packs, log_p_.data()) : 0;
    // All that are less likely than `least` do not add up to 1 - top_p: top-p leaves them out in any case.
    double const least = greedy   ? 0
                         : by_sum ? std::log((1 - options_.top_p) * total / count(log_p_)) - 1e-6
                                  : -infinity;
    collect(least);
    if (by_sum || by_count) {  // a heap: most tokens need never be sorted
      std::make_heap(kept_.begin(), kept_.end(), less_likely);
      if (by_sum) keep_sum(options_.top_p * total);
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
  static constexpr double infinity = std::numeric_limits<double>::infinity();
  static constexpr auto exp_of_packs = []<class P>(P const& x) { return aviary::simd::Pack<P>::exp(x); };

  static bool less_likely(Candidate const& a, Candidate const& b) {
    return a.log_p != b.log_p ? a.log_p < b.log_p : a.token > b.token;
  }

  void set_log_p(std::span<float const> logits, Penalties const& penalties) {
    log_p_.assign(logits.begin(), logits.end());
    penalties.for_each([&](TokenId token, double penalty) { log_p_[static_cast<std::size_t>(token)] -= penalty; });
    double largest = -infinity;
    for (double const logit : log_p_) {
      if (std::isnan(logit)) throw std::runtime_error("a logit is not a number");
      largest = std::max(largest, logit);
    }
    if (!(largest > -infinity)) throw std::runtime_error("no token has a logit above -infinity");
    for (double& x : log_p_) x = x < largest ? x - largest : 0;  // 0 where both are infinite
  }

  /// Candidates with a log_p of at least `least`.
  void collect(double least) {
    kept_.clear();
    kept_.reserve(log_p_.size());
    weights_.reserve(log_p_.size());
    sorted_ = 0;
    for (std::size_t i = 0; i < log_p_.size(); ++i)
      if (log_p_[i] >= least) kept_.push_back({log_p_[i], static_cast<TokenId>(i)});
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

  /// Keeps the most likely tokens whose exp(log_p) reach the sum, and those that are as likely as the last of them.
  void keep_sum(double wanted) {
    double sum = 0, cutoff = 0;
    do {
      cutoff = next().log_p;
      sum += std::exp(cutoff);
    } while (sum < wanted && has_next());
    while (has_next() && kept_.front().log_p >= cutoff) next();
    keep(sorted_);
  }

  TokenId draw(double power) {
    weights_.clear();
    for (Candidate const& c : kept_) weights_.push_back(c.log_p < 0 ? c.log_p * power : 0);
    aviary::simd::transform(size(weights_), weights_.data(), exp_of_packs, weights_.data());
    double const total = std::accumulate(weights_.begin(), weights_.end(), 0.0);
    double left = total * 0x1p-53 * static_cast<double>(random_() >> 11);
    TokenId last = kept_.front().token;  // what rounding leaves over is the last one's
    for (std::size_t i = 0; i < weights_.size(); ++i) {
      if (weights_[i] > 0) last = kept_[i].token;
      if (left < weights_[i]) break;
      left -= weights_[i];
    }
    return last;
  }

  static Index size(std::vector<double> const& numbers) { return static_cast<Index>(numbers.size()); }
  static double count(std::vector<double> const& numbers) { return static_cast<double>(numbers.size()); }

  SamplingOptions options_;
  std::mt19937_64 random_;
  std::vector<double> log_p_;    // one for each token, relative to the most likely one
  std::vector<Candidate> kept_;  // a heap, then sorted_ tokens in ascending order
  std::vector<double> weights_;  // one for each in kept_
  std::size_t sorted_ = 0;
};

}  // namespace AVIARY_ISA
}  // namespace models
