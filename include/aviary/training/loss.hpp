#pragma once
/// What a language model is trained to lower: the cross-entropy of its predictions, and of a head without its logits.
///
///   loss(t) = log sum_v exp(l_v) - l_target        dl_v = exp(l_v) / sum_u exp(l_u) - [v is the target]
///
/// Losses are in nats: divide by ln 2 for bits. A target of -1 is ignored: the token costs nothing, counts as no token and
/// has a gradient of zeros. Results have the same bits whatever the executor.
#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <type_traits>

#include "aviary/core/executor.hpp"
#include "aviary/core/view.hpp"
#include "aviary/dense/gradient.hpp"
#include "aviary/layers/embedding.hpp"
#include "aviary/simd/pack.hpp"

namespace AVIARY_NAMESPACE {

/// The loss of some tokens, in nats.
struct Loss {
  double sum = 0;
  Index tokens = 0;  ///< those that are not ignored

  double mean() const noexcept { return tokens > 0 ? sum / static_cast<double>(tokens) : 0; }
  friend bool operator==(Loss const&, Loss const&) = default;
};

namespace detail {

inline constexpr Index ignored_target = -1;

/// Replaces the logits of a token by their gradient times scale.
/// @return the loss
template <class T> double pull_cross_entropy(VecView<T> logits, Index target, T scale) noexcept {
  AVIARY_ASSERT(target == ignored_target || (0 <= target && target < logits.size()));
  if (target == ignored_target) {
    std::fill(logits.begin(), logits.end(), T(0));
    return 0;
  }
  constexpr Index block = 512;  // whose sum loses few digits
  T const most = simd::largest<T>(logits.size(), logits.data()), of_target = logits[target];
  double sum = 0;
  for (Index i = 0; i < logits.size(); i += block) {
    Index const n = std::min(block, logits.size() - i);
    T* const numbers = logits.data() + i;
    simd::transform(
        n, numbers,
        [most](auto const& e) {
          using P = std::remove_cvref_t<decltype(e)>;
          return simd::Pack<P>::exp(e - P(most));
        },
        numbers);
    sum += static_cast<double>(simd::sum(
        n, [](auto const& e) { return e; }, static_cast<T const*>(numbers)));
  }
  simd::transform(
      logits.size(), logits.data(),
      [factor = static_cast<T>(static_cast<double>(scale) / sum)](auto const& e) {
        return e * std::remove_cvref_t<decltype(e)>(factor);
      },
      logits.data());
  logits[target] -= scale;
  return static_cast<double>(most) - static_cast<double>(of_target) + std::log(sum);
}

/// The losses of tokens that have been computed, one after another.
template <class Ids> Loss sum_of_losses(Ids const& targets, VecView<double const> losses) noexcept {
  Loss loss;
  for (Index t = 0; t < losses.size(); ++t) {
    loss.sum += losses[t];
    loss.tokens += static_cast<Index>(std::begin(targets)[t]) != ignored_target;
  }
  return loss;
}

template <class T, class Target, class E>
void pull_cross_entropies(MatView<T> logits, Target const& target, T scale, VecView<double> losses, E& executor) {
  constexpr Index multiplies = 20;  // what an exponential is worth
  AVIARY_ASSERT(losses.size() == logits.rows());
  share_out(executor, logits.rows(), logits.rows() * logits.columns() * multiplies,
            [&](Index begin, Index end) noexcept {
              for (Index t = begin; t < end; ++t) losses[t] = pull_cross_entropy<T>(logits[t], target(t), scale);
            });
}

}  // namespace detail

/// The cross-entropy of logits (tokens, vocabulary), which become their gradient times scale: 1 / tokens for that of a mean.
/// Logits may be of any size, -infinity among them. One that is NaN or +infinity, or a row of -infinity, makes a loss NaN.
///   Error: of a loss n eps, of a gradient n eps scale, with n = 512 / lanes + 10 for packs of so many lanes: what sums of 512
///   exponentials lose at most.  Cost: an exponential a logit, read three times. It does not allocate.
/// @param targets  (tokens), of any integer type: 0 ... vocabulary - 1, or -1     @param losses  (tokens), each token's, in nats
template <class T, TokenIds Ids, class E = Serial>
Loss softmax_cross_entropy(MatView<T> logits, Ids const& targets, std::type_identity_t<T> scale, VecView<double> losses,
                           E&& executor = {}) {
  AVIARY_ASSERT(static_cast<Index>(std::size(targets)) == logits.rows());
  detail::pull_cross_entropies(
      logits, [&](Index t) noexcept { return static_cast<Index>(std::begin(targets)[t]); }, scale, losses, executor);
  return detail::sum_of_losses(targets, losses);
}

/// A head and its loss: logits = head x of each token.
template <class T> struct HeadLossCall {
  MatView<T const> x;      ///< (tokens, C)
  WeightMatrix head;       ///< (vocabulary, C), in any storage
  MatView<T> logits;       ///< scratch (stretch, vocabulary): so many tokens have logits at a time
  VecView<double> losses;  ///< (tokens), written: each token's, in nats
  T scale = T(1);          ///< of the gradients: 1 / tokens for those of a mean
  MatSink<T> dx = {};      ///< (tokens, C), added to; {}: not wanted
  MatSink<T> dhead = {};   ///< (vocabulary, C), added to; {}: not wanted
};

/// The cross-entropy of the logits of a head, and what it adds to the gradients of x and of the head. There are never more
/// logits than the scratch has room for, and results have the same bits whatever that is.
///   Error: as of the products and of softmax_cross_entropy.  Cost: C * vocabulary multiply-adds a token, and as many for each
///   gradient that is wanted. The head is copied in panels for each stretch, which 64 tokens or more are worth. It does not
///   allocate. Stack: 80 KiB.
template <class T, TokenIds Ids, class E = Serial>
Loss head_cross_entropy(HeadLossCall<T> const& call, Ids const& targets, E&& executor = {}) {
  Index const tokens = call.x.rows(), stretch = call.logits.rows();
  AVIARY_ASSERT(static_cast<Index>(std::size(targets)) == tokens && call.losses.size() == tokens);
  AVIARY_ASSERT(call.head.columns() == call.x.columns() && call.head.rows() == call.logits.columns());
  AVIARY_ASSERT(stretch > 0 || tokens == 0);
  for (Index first = 0; first < tokens; first += stretch) {
    Index const n = std::min(stretch, tokens - first);
    MatView<T const> const x = call.x.rows(first, n);
    MatView<T> const logits = call.logits.rows(0, n);
    detail::fill_rows(logits, T(0));
    add_input_gradient<T>(call.head, WeightLayout::in_out, x, logits, executor);  // x head^T: of a head turned round
    detail::pull_cross_entropies(
        logits, [&](Index t) noexcept { return static_cast<Index>(std::begin(targets)[first + t]); }, call.scale,
        call.losses.segment(first, n), executor);
    if (call.dx.wanted())
      add_input_gradient<T>(call.head, WeightLayout::out_in, logits, call.dx.rows(first, n), executor);
    add_weight_gradient<T>(logits, x, call.dhead, executor);
  }
  return detail::sum_of_losses(targets, call.losses);
}

}  // namespace AVIARY_NAMESPACE
