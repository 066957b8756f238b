#pragma once
/// The learning rate of each step: it rises along a line, then falls to a floor.
#include <algorithm>
#include <cmath>
#include <numbers>

#include "aviary/core/config.hpp"

namespace AVIARY_NAMESPACE {

/// How a learning rate goes from its peak to its floor.
enum class RateCurve {
  constant,  ///< it stays at the peak
  linear,
  cosine,  ///< half a period: flat at either end
};

/// The learning rate as a function of the step, and of nothing else, so that training may stop and go on anywhere. With the
/// cosine and a start of 0.01 it is that of the training code published for RWKV.
struct Schedule {
  double peak;
  Index steps;  ///< the floor is reached with this step, and kept
  double floor = 0;
  Index warm_up = 0;    ///< the peak is reached with this step
  double start = 0.01;  ///< what step 0 has, as a part of the peak, if there is a warm-up
  RateCurve curve = RateCurve::cosine;

  /// The rate of step 0, 1, ...; that of the warm-up where the two overlap.
  double operator()(Index step) const noexcept {
    if (step < warm_up) return peak * (start + (1 - start) * part(step, warm_up));
    double const done = step < steps ? part(step - warm_up, steps - warm_up) : 1;
    switch (curve) {
      case RateCurve::constant:
        break;
      case RateCurve::linear:
        return peak + (floor - peak) * done;
      case RateCurve::cosine:
        return floor + (peak - floor) * (1 + std::cos(std::numbers::pi * done)) / 2;
    }
    return peak;
  }

 private:
  static double part(Index n, Index of) noexcept { return static_cast<double>(n) / static_cast<double>(of); }
};

}  // namespace AVIARY_NAMESPACE
