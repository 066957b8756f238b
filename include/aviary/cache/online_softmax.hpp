#pragma once
/// The softmax of scores that come in blocks, relative to the largest so far ("online", Milakov and Gimelshein 2018,
/// arXiv:1805.02867).
#include <cmath>
#include <limits>

#include "aviary/simd/pack.hpp"

namespace AVIARY_NAMESPACE {

/// For each block: `begin`, `weigh` its scores, `add` the sum of their weights. What was summed with weights of earlier blocks is
/// rescaled by what `begin` returns; in the end it is divided by `sum`.
template <class T> struct OnlineSoftmax {
  T most = -std::numeric_limits<T>::infinity();  ///< the largest score
  T sum = T(0);                                  ///< of the weights

  /// A block comes whose largest score is told. Returns what rescales weights of earlier blocks.
  AVIARY_HOST_DEVICE T begin(T largest) noexcept {
    T const before = most;
    most = before < largest ? largest : before;
    return std::exp(before - most);
  }
  /// The weights of scores of the block, exp(score - most).
  template <class P> AVIARY_HOST_DEVICE AVIARY_INLINE P weigh(P const& scores) const noexcept {
    return simd::Pack<P>::exp(scores - P(most));
  }
  AVIARY_HOST_DEVICE void add(T weights, T rescale) noexcept { sum = simd::Pack<T>::fma(sum, rescale, weights); }
  /// The logarithm of the sum of exp(score).
  AVIARY_HOST_DEVICE T log_sum() const noexcept { return most + std::log(sum); }
};

}  // namespace AVIARY_NAMESPACE
