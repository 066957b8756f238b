#pragma once
/// Products of rows and weights of bf16, q8 or q4 on the matrix unit, which takes each number of a row as a sum of one or two
/// bf16, and each weight as one: of q8 and q4 it is rounded.
///
/// The unit multiplies exactly, and adds up the products of 32 inputs before it adds them to a float. It takes subnormal
/// numbers for 0. All rows go through it, however few there are: a row has the same bits alone and among others.
#include <algorithm>

#include "aviary/dense/panels.hpp"
#include "aviary/dense/product.hpp"
#include "aviary/simd/tiles.hpp"

#if AVIARY_HAS_TILES
namespace AVIARY_NAMESPACE::detail {

/// y = x w with weights of S in panels and x in `terms` bf16, 1 or 2.
template <class S, int terms> class TileProduct {
  using P = simd::Native<float>;
  using L = simd::Pack<P>;
  static_assert(L::lanes == 16);
  static constexpr bool is_widened = !std::is_same_v<S, bf16>;

  /// Rows of a block and numbers that it holds, 64 KiB: of many rows 256 inputs, so that what a panel has for them, 16 KiB,
  /// stays in the nearest cache from rows to rows. Panels of a strip, which with the sums of a block stays in the next one.
  static constexpr Index block_rows = 128 / terms, block_size = 32768, strip_panels = 32;
  /// Groups of 32 inputs that are widened at once.
  static constexpr Index widened_groups = 8;
  static constexpr Index words_per_group = group_words<bf16>;
  static constexpr long bytes_per_group = inputs_per_scale * static_cast<long>(sizeof(bf16));

  using Tiles = simd::Tiles<bytes_per_group>;

  /// Rows as bf16: of each group its terms one after the other. Those that make the number up to a multiple of 16 are 0.
  struct Block {
    alignas(64) bf16 numbers[to_size(block_size)];
    alignas(64) std::uint32_t columns[to_size(is_widened ? widened_groups * words_per_group : 1)];
    Index first, size;  ///< groups

    Index stride() const noexcept { return terms * size * inputs_per_scale; }
    bf16* group(Index row, Index g) noexcept { return numbers + row * stride() + terms * g * inputs_per_scale; }
    void read(MatView<float const> x, Index padded) noexcept {
      for (Index r = 0; r < x.rows(); ++r)
        for (Index g = 0; g < size; ++g) split(x[r], (first + g) * inputs_per_scale, group(r, g));
      std::fill(group(x.rows(), 0), group(padded, 0), bf16{0});
    }
  };

 public:
  /// Computes y(t, o) for rows x (tokens, in) and the outputs o of panels first ... last - 1, as far as y has them.
  static void run(WordPanels<S> const& w, MatView<float const> x, MatView<float> y, Index first, Index last) noexcept {
    Block block;
    Tiles tiles;
    Index const most = std::clamp((x.rows() + 15) / 16 * 16, Index{16}, block_rows);
    Index const at_once = is_widened && most > 32 ? widened_groups : block_size / (terms * most * inputs_per_scale);
    for (Index p = first; p < last; p += strip_panels)
      for (block.first = 0; block.first < w.groups(); block.first += at_once) {
        block.size = std::min(at_once, w.groups() - block.first);
        for (Index t = 0; t < x.rows(); t += block_rows) {
          Index const count = std::min(block_rows, x.rows() - t);
          block.read(x.rows(t, count), (count + 15) / 16 * 16);
          for (Index q = p; q < std::min(last, p + strip_panels); ++q) {
            Index const i = block.first * inputs_per_scale;
            panel(tiles, w.slice(q, i), w.slice(std::min(q + 1, last - 1), i), block, y.rows(t, count), q);
          }
        }
      }
  }

 private:
  /// Writes 32 numbers of a row as bf16, and then what that leaves.
  static void split(VecView<float const> x, Index first, bf16* to) noexcept {
    for (Index i = 0; i < inputs_per_scale; i += L::lanes) {
      P rest = first + i < x.size() ? simd::load_part<P>(x.data(), first + i, x.size()) : P(0);
      for (int term = 0; term < terms; ++term) rest = simd::split_bf16(to + term * inputs_per_scale + i, rest);
    }
  }

  /// Writes the weights of n groups as words of bf16.
  static void widen(PanelSlice<S> const& w, Index n, std::uint32_t* to) noexcept {
    constexpr int pairs = PanelSlice<S>::in_word / 2;
    constexpr Index words = inputs_per_scale / PanelSlice<S>::in_word;
    for (Index g = 0; g < n; ++g)
      for (Index o = 0; o < panel_outputs; o += L::lanes) {
        P const scale = simd::load<P>(w.scales + g * panel_outputs + o);
        for (Index m = g * words; m < (g + 1) * words; ++m)
          each<pairs, 1>([&](int k, int) AVIARY_INLINE_LAMBDA {
            simd::widen_to_bf16<S>(w.words + m * panel_outputs + o, k, scale, to + (pairs * m + k) * panel_outputs + o);
          });
      }
  }

  /// Adds the products of a block and the weights of panel p to the rows of y, and asks for the weights of the next one.
  static void panel(Tiles& tiles, PanelSlice<S> const& w, PanelSlice<S> const& next, Block& block, MatView<float> y,
                    Index p) noexcept {
    for (Index r = 0; r < y.rows(); r += 32) {
      Index const count = std::min(Index{32}, y.rows() - r);
      bool const both = count > 16, whole = count % 16 == 0 && (p + 1) * panel_outputs <= y.columns();
      alignas(64) float numbers[32 * to_size(panel_outputs)];
      MatView<float> const sums(numbers, 32, panel_outputs);
      float* const at = whole ? &y(r, p * panel_outputs) : numbers;
      long const stride = (whole ? y.stride() : panel_outputs) * static_cast<long>(sizeof(float));
      if (block.first == 0) {
        tiles.clear();
      } else {
        if (!whole) copy_panel<P>(y.rows(r, count), p * panel_outputs, sums, 0);
        tiles.load(at, stride, both);
      }
      for (Index g = 0; g < block.size; g += widened_groups) {
        Index const n = std::min(widened_groups, block.size - g);
        std::uint32_t const* columns;
        if constexpr (is_widened) {
          if (r == 0) widen({w.words + g * group_words<S>, w.scales + g * panel_outputs}, n, block.columns);
          columns = block.columns;
        } else {
          columns = w.words + g * words_per_group;
        }
        for (Index i = 0; i < n; ++i) {
          fetch_group(next, g + i, r / 32, (y.rows() + 31) / 32);
          tiles.columns(columns + i * words_per_group);
          for (int term = 0; term < terms; ++term)
            tiles.add(block.group(r, g + i) + term * inputs_per_scale, block.stride() * static_cast<long>(sizeof(bf16)),
                      both);
        }
      }
      tiles.store(at, stride, both);
      if (!whole) copy_panel<P>(sums, 0, y.rows(r, count), p * panel_outputs);
    }
  }
};

}  // namespace AVIARY_NAMESPACE::detail
#endif
