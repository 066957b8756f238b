#pragma once
/// Activations as objects that are passed on: functions of a number or a pack.
#include "aviary/core/math.hpp"

namespace aviary::activation {

inline constexpr auto none = [](auto const& x) { return x; };
inline constexpr auto sigmoid = [](auto const& x) { return aviary::sigmoid(x); };
inline constexpr auto tanh = [](auto const& x) {
  using std::tanh;  // of a number; that of a batch is found by its type
  return tanh(x);
};

}  // namespace aviary::activation
