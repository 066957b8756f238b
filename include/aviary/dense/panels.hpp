#pragma once
/// Matrices of weights in panels, as PanelProduct reads them.
///
/// A panel is 32 outputs: the 32 weights of an input lie side by side, and those of the next input follow them. Thus
/// outputs lie along the SIMD lanes, and a product with one row reads all weights in the order in which they lie.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>

#include "aviary/core/aligned.hpp"
#include "aviary/core/error.hpp"
#include "aviary/core/q8.hpp"
#include "aviary/dense/product.hpp"
#include "aviary/dense/weights.hpp"

namespace AVIARY_NAMESPACE::detail {

/// (in, out) weights as numbers of type S in memory of somebody else, panel after panel.
template <Stored S> struct PanelsView {
  static constexpr bool has_scales = false;
  S const* numbers;
  Index in;

  PanelSlice<S> slice(Index p, Index i) const noexcept { return {numbers + (p * in + i) * panel_outputs, nullptr}; }
};

/// (in, out) weights as numbers of type S.
template <Stored S> class NumberPanels {
 public:
  static constexpr bool has_scales = false;

  NumberPanels(Index in, Index panels) : in_(in), numbers_(to_size(in * panels * panel_outputs)) {}

  /// Copies the weights of panel p: that of input i and output o is w[i * panel_outputs + o].
  template <class T> void set(Index p, T const* w) {
    convert(w, numbers_.data() + p * in_ * panel_outputs, in_ * panel_outputs);
  }

  std::size_t bytes() const noexcept { return numbers_.size() * sizeof(S); }

  PanelSlice<S> slice(Index p, Index i) const noexcept { return PanelsView<S>{numbers_.data(), in_}.slice(p, i); }

 private:
  Index in_;
  AlignedVector<S> numbers_;
};

/// (in, out) weights as whole numbers from -127 to 127, times a scale for each output and 32 inputs.
class Q8Panels {
 public:
  static constexpr bool has_scales = true;

  Q8Panels(Index in, Index panels)
      : in_(in),
        groups_((in + inputs_per_scale - 1) / inputs_per_scale),
        numbers_(to_size(in * panels * panel_outputs)),
        scales_(to_size(groups_ * panels * panel_outputs)) {}

  template <class T> void set(Index p, T const* w) {
    for (Index g = 0; g < groups_; ++g)
      for (Index o = 0; o < panel_outputs; ++o) set_group(p, g, o, w);
  }

  std::size_t bytes() const noexcept { return numbers_.size() + scales_.size() * sizeof(bf16); }

  PanelSlice<std::int8_t> slice(Index p, Index i) const noexcept {
    return {numbers_.data() + (p * in_ + i) * panel_outputs,
            scales_.data() + (p * groups_ + i / inputs_per_scale) * panel_outputs};
  }

 private:
  template <class T> void set_group(Index p, Index g, Index o, T const* w) {
    Index const first = g * inputs_per_scale, last = std::min(first + inputs_per_scale, in_);
    float most = 0;
    for (Index i = first; i < last; ++i) most = std::max(most, std::abs(finite(w[i * panel_outputs + o])));
    bf16 const scale = q8_scale(most);
    scales_[to_size((p * groups_ + g) * panel_outputs + o)] = scale;
    if (scale == bf16{0}) return;
    for (Index i = first; i < last; ++i) {
      auto const x = static_cast<float>(w[i * panel_outputs + o]);
      numbers_[to_size((p * in_ + i) * panel_outputs + o)] = q8_steps(x, scale);
    }
  }
  template <class T> static float finite(T x) {
    if (!(std::abs(x) <= T(std::numeric_limits<float>::max())))
      refuse("a weight is " + std::to_string(x) + ", expected finite numbers for q8");
    return static_cast<float>(x);
  }

  Index in_, groups_;
  AlignedVector<std::int8_t> numbers_;
  AlignedVector<bf16> scales_;
};

}  // namespace AVIARY_NAMESPACE::detail
