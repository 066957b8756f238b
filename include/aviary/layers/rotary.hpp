#pragma once
/// Rotary position embedding (Su et al. 2021, arXiv:2104.09864).
#include <cmath>
#include <string>

#include "aviary/core/aligned.hpp"
#include "aviary/core/error.hpp"
#include "aviary/core/view.hpp"

namespace AVIARY_NAMESPACE {

/// Turns the pair of numbers (2i, 2i + 1) of each head by the angle position * base^(-2i/N), so that products of queries
/// and keys depend on how far apart they are.
///   Error: angles are doubles. At position 2^31 they still have nine digits after the point.
class Rotary {
 public:
  /// @throws std::invalid_argument unless the head size is even and positive, and base is positive and finite
  explicit Rotary(Index head_size, double base = 10000) {
    if (head_size < 2 || head_size % 2 != 0)
      detail::refuse("Rotary: the head size is " + std::to_string(head_size) + ", expected an even number");
    if (!(base > 0 && std::isfinite(base)))
      detail::refuse("Rotary: the base is " + std::to_string(base) + ", expected above 0");
    for (Index i = 0; i < head_size; i += 2)
      frequencies_.push_back(std::pow(base, -static_cast<double>(i) / static_cast<double>(head_size)));
  }

  Index head_size() const noexcept { return 2 * static_cast<Index>(frequencies_.size()); }

  /// Turns x (tokens, C) in place. Row t is at position `position` + t. C is a multiple of the head size.
  template <class T> void operator()(MatView<T> x, Index position) const noexcept { turn(x, position, T(1)); }

  /// The gradient, in place: what reached the turned rows becomes what reaches them before. It turns the other way.
  template <class T> void backward(MatView<T> d, Index position) const noexcept { turn(d, position, T(-1)); }

 private:
  template <class T> void turn(MatView<T> x, Index position, T direction) const noexcept {
    AVIARY_ASSERT(x.columns() % head_size() == 0);
    for (Index t = 0; t < x.rows(); ++t)
      for (Index i = 0; i < head_size(); i += 2) {
        double const angle = static_cast<double>(position + t) * frequencies_[to_size(i / 2)];
        T const c = static_cast<T>(std::cos(angle)), s = direction * static_cast<T>(std::sin(angle));
        for (Index at = i; at < x.columns(); at += head_size()) turn(x(t, at), x(t, at + 1), c, s);
      }
  }
  template <class T> static void turn(T& x, T& y, T c, T s) noexcept {
    T const turned = c * x - s * y;
    y = s * x + c * y;
    x = turned;
  }

  AlignedVector<double> frequencies_;  // (N/2)
};

}  // namespace AVIARY_NAMESPACE
