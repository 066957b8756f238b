#pragma once
/// Matrices of weights in panels, as products read them.
///
/// A panel is 32 outputs: the 32 weights of an input lie side by side, and those of the next input follow them. Numbers of
/// less than 32 bits lie in words of 2 bf16, 4 q8 or 8 q4 of consecutive inputs of one output, and words lie like numbers.
/// Thus outputs lie along the SIMD lanes, a product with one row reads all weights in the order in which they lie, and the
/// units that add up products of 2 bf16 or 4 integers in a lane read them as they are.
#include <algorithm>
#include <cstdint>

#include "aviary/core/aligned.hpp"
#include "aviary/core/steps.hpp"
#include "aviary/dense/product.hpp"
#include "aviary/dense/weights.hpp"

namespace AVIARY_NAMESPACE::detail {

/// (in, out) weights as numbers of type S in memory of somebody else, panel after panel.
template <Stored S> struct PanelsView {
  using Slice = PanelSlice<S>;
  static constexpr bool has_scales = false;
  S const* numbers;
  Index in;

  Slice slice(Index p, Index i) const noexcept { return {numbers + (p * in + i) * panel_outputs, nullptr}; }
};

/// (in, out) weights as numbers of type S.
template <Stored S> class NumberPanels {
 public:
  using Slice = PanelSlice<S>;
  static constexpr bool has_scales = false;

  NumberPanels(Index in, Index panels) : in_(in), numbers_(to_size(in * panels * panel_outputs)) {}

  /// Copies the weights of panel p, 32 rows of inputs: that of input i and output o is w[o * in + i].
  template <class T> void set(Index p, T const* w) {
    T numbers[panel_outputs];
    for (Index i = 0; i < in_; ++i) {
      for (Index o = 0; o < panel_outputs; ++o) numbers[o] = w[o * in_ + i];
      convert(numbers, numbers_.data() + (p * in_ + i) * panel_outputs, panel_outputs);
    }
  }

  std::size_t bytes() const noexcept { return numbers_.size() * sizeof(S); }

  Slice slice(Index p, Index i) const noexcept { return PanelsView<S>{numbers_.data(), in_}.slice(p, i); }

 private:
  Index in_;
  AlignedVector<S> numbers_;
};

/// The words that a group of 32 inputs has in a panel.
template <class S> inline constexpr Index group_words = panel_outputs* inputs_per_scale / PanelSlice<S>::in_word;

/// Asks for a share of a group's weights, one of so many. (A tile of a matrix unit is loaded line by line, each of which waits
/// for the memory: neither the processor nor other instructions run ahead of it.)
template <class S> void fetch_group(PanelSlice<S> const& w, Index g, Index share, Index shares) noexcept {
  constexpr Index line = static_cast<Index>(alignment / sizeof(std::uint32_t)), lines = group_words<S> / line;
  for (Index i = lines * share / shares; i < lines * (share + 1) / shares; ++i)
    simd::prefetch_far(reinterpret_cast<std::uintptr_t>(w.words + g * group_words<S> + i * line));
}

/// (in, out) weights in words: S is bf16, q8 or q4. Inputs are made up to a multiple of 32, and at least 32, with zeros, so
/// that a group of 32 has whole words, a scale with q8 and q4, and a tile of a matrix unit.
template <class S> class WordPanels {
 public:
  using Slice = PanelSlice<S>;
  static constexpr bool has_scales = !std::is_same_v<S, bf16>;

  WordPanels(Index in, Index panels)
      : in_(in),
        groups_(std::max(Index{1}, (in + inputs_per_scale - 1) / inputs_per_scale)),
        words_(to_size(groups_ * words_per_group * panels * panel_outputs)),
        scales_(has_scales ? to_size(groups_ * panels * panel_outputs) : 0) {}

  /// Copies the weights of panel p, as NumberPanels does.
  template <class T> void set(Index p, T const* w) {
    for (Index g = 0; g < groups_; ++g)
      for (Index o = 0; o < panel_outputs; ++o) set_group(p, g, o, w);
  }

  Index groups() const noexcept { return groups_; }
  std::size_t bytes() const noexcept { return words_.size() * sizeof(std::uint32_t) + scales_.size() * sizeof(bf16); }

  Slice slice(Index p, Index i) const noexcept {
    Index const group = p * groups_ + i / inputs_per_scale, word = i % inputs_per_scale / Slice::in_word;
    return {words_.data() + (group * words_per_group + word) * panel_outputs,
            scales_.data() + (has_scales ? group * panel_outputs : 0)};
  }

 private:
  static constexpr Index words_per_group = group_words<S> / panel_outputs;

  template <class T> void set_group(Index p, Index g, Index o, T const* w) {
    Index const first = g * inputs_per_scale, n = std::min(inputs_per_scale, in_ - first);
    T numbers[inputs_per_scale] = {};
    std::copy_n(w + o * in_ + first, n, numbers);
    std::uint32_t bits[inputs_per_scale];
    Index const group = p * groups_ + g;
    if constexpr (has_scales) {
      std::int8_t steps[inputs_per_scale];
      scales_[to_size(group * panel_outputs + o)] = to_steps<S>(numbers, steps);
      constexpr int shift = std::is_same_v<S, q4> ? 8 : 0;
      constexpr std::uint32_t mask = std::is_same_v<S, q4> ? 15 : 255;
      for (Index i = 0; i < inputs_per_scale; ++i) bits[i] = static_cast<std::uint32_t>(steps[i] + shift) & mask;
    } else {
      S narrowed[inputs_per_scale];
      convert(numbers, narrowed, inputs_per_scale);
      for (Index i = 0; i < inputs_per_scale; ++i) bits[i] = narrowed[i].bits;
    }
    std::uint32_t* word = words_.data() + group * words_per_group * panel_outputs + o;
    for (Index i = 0; i < inputs_per_scale; word += panel_outputs) {
      *word = 0;
      for (int k = 0; k < Slice::in_word; ++k) *word |= bits[i++] << simd::bit_in_word<S>(k);
    }
  }

  Index in_, groups_;
  AlignedVector<std::uint32_t> words_;
  AlignedVector<bf16> scales_;
};

}  // namespace AVIARY_NAMESPACE::detail
