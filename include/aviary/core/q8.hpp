#pragma once
/// The arithmetic of q8 numbers, whatever shares a scale.
#include <cmath>
#include <cstdint>
#include <limits>

#include "aviary/core/convert.hpp"

namespace AVIARY_NAMESPACE::detail {

/// The scale of numbers of which the largest is `most` >= 0: 1/127 of it, rounded up, so that none is cut off; 0 for numbers
/// that are next to nothing.
constexpr bf16 q8_scale(float most) noexcept {
  bf16 scale = narrow<bf16>(most / 127);
  if (widen(scale) * 127 < most) ++scale.bits;
  return widen(scale) < std::numeric_limits<float>::min() ? bf16{0} : scale;
}

/// The number of steps of a scale > 0 that is nearest to x, which is among those that it was made for.
inline std::int8_t q8_steps(float x, bf16 scale) noexcept {
  return static_cast<std::int8_t>(std::nearbyint(x / widen(scale)));
}

}  // namespace AVIARY_NAMESPACE::detail
