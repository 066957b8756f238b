#pragma once
/// Products of rows and weights of bf16 on the matrix unit, which takes each number of a row as a sum of one or two bf16.
///
/// The unit multiplies exactly, and adds up the products of 32 inputs before it adds them to a float. It takes subnormal
/// numbers for 0. All rows go through it, however few there are: a row has the same bits alone and among others.
#include <algorithm>

#include "aviary/dense/panels.hpp"
#include "aviary/dense/product.hpp"
#include "aviary/simd/tiles.hpp"

#if AVIARY_HAS_TILES
namespace AVIARY_NAMESPACE::detail {

/// y = x w with x in `terms` bf16, 1 or 2.
template <int terms> class TileProduct {
  using P = simd::Native<float>;
  using L = simd::Pack<P>;
  static_assert(L::lanes == 16);

  /// Rows of a block, and numbers that it holds: 64 KiB.
  static constexpr Index block_rows = 64, block_size = 32768;

 public:
  /// Computes y(t, o) for rows x (tokens, in) and the outputs o of panels first ... last - 1, as far as y has them.
  static void run(WordPanels<bf16> const& w, MatView<float const> x, MatView<float> y, Index first,
                  Index last) noexcept {
    alignas(64) bf16 block[to_size(block_size)];
    simd::Tiles<2 * inputs_per_scale> tiles;
    for (Index t = 0; t < x.rows(); t += block_rows) {
      Index const count = std::min(block_rows, x.rows() - t), padded = (count + 15) / 16 * 16;
      Index const at_once = block_size / (terms * padded * inputs_per_scale);
      for (Index g = 0; g < w.groups(); g += at_once) {
        Index const groups = std::min(at_once, w.groups() - g), stride = terms * groups * inputs_per_scale;
        for (Index r = 0; r < count; ++r)
          for (Index i = 0; i < groups; ++i)
            split(x[t + r], (g + i) * inputs_per_scale, block + r * stride + terms * i * inputs_per_scale);
        std::fill(block + count * stride, block + padded * stride, bf16{0});
        for (Index p = first; p < last; ++p)
          for (Index r = 0; r < count; r += 32)
            tile(tiles, w.slice(p, g * inputs_per_scale).words, block + r * stride, groups, y, t + r,
                 std::min(Index{32}, count - r), p, g == 0);
      }
    }
  }

 private:
  /// Writes 32 numbers of a row as bf16, and then what that leaves.
  static void split(VecView<float const> x, Index first, bf16* to) noexcept {
    for (Index i = 0; i < inputs_per_scale; i += L::lanes) {
      P rest = first + i < x.size() ? simd::load_part<P>(x.data(), first + i, x.size()) : P(0);
      for (int term = 0; term < terms; ++term) {
        bf16* const at = to + term * inputs_per_scale + i;
        simd::store(at, rest);
        rest = rest - simd::load<P>(at);
      }
    }
  }

  static void tile(simd::Tiles<2 * inputs_per_scale>& tiles, std::uint32_t const* words, bf16 const* rows, Index groups,
                   MatView<float> y, Index t, Index count, Index p, bool clear) noexcept {
    constexpr Index words_per_group = inputs_per_scale / 2 * panel_outputs;
    alignas(64) float numbers[32 * to_size(panel_outputs)];
    MatView<float> const sums(numbers, 32, panel_outputs);
    bool const both = count > 16;
    ProductTile<P, 1, 2> row;
    if (clear) {
      tiles.clear();
    } else {
      for (Index r = 0; r < count; ++r) {
        row.load(y, t + r, p * panel_outputs);
        row.store(sums, r, 0);
      }
      tiles.load(numbers, both);
    }
    for (Index g = 0; g < groups; ++g) {
      tiles.columns(words + g * words_per_group);
      for (int term = 0; term < terms; ++term)
        tiles.add(rows + (terms * g + term) * inputs_per_scale,
                  terms * groups * inputs_per_scale * static_cast<Index>(sizeof(bf16)), both);
    }
    tiles.store(numbers, both);
    for (Index r = 0; r < count; ++r) {
      row.load(sums, r, 0);
      row.store(y, t + r, p * panel_outputs);
    }
  }
};

}  // namespace AVIARY_NAMESPACE::detail
#endif
