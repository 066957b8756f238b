#pragma once
/// Products of rows and weights of q8 or q4 in whole numbers.
///
/// Each group of 32 inputs of a row becomes steps of a scale, -127 ... 127, as the weights are already. The sum of a group's
/// products is a whole number below 2^24, which every unit finds exactly, and which one fma adds to the output:
///
///   y_o = fma(s_go s_g, n_go, ... fma(s_0o s_0, n_0o, 0)),   n_go = sum of w_io x_i over the group, in steps
///
/// So a row has the same bits alone and among others, and with whatever unit.
#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <limits>

#include "aviary/dense/panels.hpp"
#include "aviary/dense/product.hpp"
#include "aviary/simd/dot.hpp"
#include "aviary/simd/tiles.hpp"

namespace AVIARY_NAMESPACE::detail {

/// The scale of a group, and the sum of its steps.
struct StepGroup {
  float scale;
  std::int32_t sum;
};

/// 32 numbers as steps, of which the largest is 127 or -127: x = scale * steps within half a step. Numbers that are next to
/// nothing become 0. With one that is not finite all steps are 0, and the scale is NaN.
inline StepGroup to_steps(float const* x, std::int8_t* steps) noexcept {
  using P = simd::Native<float>;
  using L = simd::Pack<P>;
  constexpr Index size = inputs_per_scale;
  constexpr float to_bits = 0x1.8p23f;  // x + 1.5 2^23 has the whole number nearest to x in its lowest bits
  constexpr std::uint32_t finite = 0x7f7fffffu;
  std::uint32_t bits = 0;
  for (Index i = 0; i < size; ++i) bits = std::max(bits, bits_of(x[i]) & 0x7fffffffu);
  float const most = float_of(bits);
  if (bits > finite || most < 127 * std::numeric_limits<float>::min()) {
    std::fill_n(steps, size, std::int8_t{0});
    return {bits > finite ? std::numeric_limits<float>::quiet_NaN() : 0, 0};
  }
  P const inverse(127 / most);
  alignas(64) float shifted[to_size(size)];
  for (Index i = 0; i < size; i += L::lanes) L::store(shifted + i, L::fma(L::load(x + i), inverse, P(to_bits)));
  std::int32_t sum = 0;
  for (Index i = 0; i < size; ++i) {
    steps[i] = static_cast<std::int8_t>(bits_of(shifted[i]));
    sum += steps[i];
  }
  return {most / 127, sum};
}

/// The same of n <= 32 numbers, with zeros after them.
inline StepGroup to_steps(float const* x, Index n, std::int8_t* steps) noexcept {
  if (n >= inputs_per_scale) return to_steps(x, steps);
  float padded[to_size(inputs_per_scale)] = {};
  std::copy_n(x, n, padded);
  return to_steps(padded, steps);
}

/// y = x w for rows x and weights of q8 or q4 in panels, with packs P.
template <class P> class StepProduct {
  using L = simd::Pack<P>;
  using Dot = simd::Dot<P>;
  static constexpr int packs = static_cast<int>(panel_outputs / L::lanes);

  /// Rows of a tile of one panel: each has a float and an integer for every output. Panels that a single row takes at once:
  /// eight sums hide the latency of the unit.
  static constexpr int tile_rows = std::max(packs > 4 ? 1 : 2, (L::registers - 8) / (2 * packs));
  static constexpr int row_panels = std::max(1, 8 / packs);
  /// Rows and groups of a block: 32 KiB of steps.
  static constexpr Index block_rows = 64, block_groups = 1024;
  /// Rows from which on the matrix unit is faster, for weights of S.
  template <class S> static constexpr Index tile_rows_from = std::is_same_v<S, q4> ? 10 : 8;

  /// Rows of a block: groups lie side by side.
  struct Rows {
    std::int8_t const* steps;
    StepGroup const* groups;
    Index size;  ///< groups of a row
    bool first;  ///< whether they begin with the first input: if not, sums go on from what is in y

    Rows from(Index row) const noexcept {
      return {steps + row * size * inputs_per_scale, groups + row * size, size, first};
    }
    StepGroup const& group(int row, Index g) const noexcept { return groups[row * size + g]; }
    /// Four steps: the i-th four of a group.
    std::uint32_t four(int row, Index g, Index i) const noexcept {
      std::uint32_t bytes;
      std::memcpy(&bytes, steps + (row * size + g) * inputs_per_scale + 4 * i, sizeof bytes);
      return bytes;
    }
  };

 public:
  /// Computes y(t, o) for rows x (tokens, in) and the outputs o of panels first ... last - 1, as far as y has them. `tiles`
  /// says whether many rows may go to the matrix unit.
  template <class S>
  static void run(WordPanels<S> const& w, MatView<float const> x, MatView<float> y, Index first, Index last,
                  bool tiles = simd::tiles_granted()) noexcept {
    alignas(64) std::int8_t steps[to_size(block_groups * inputs_per_scale)];
    StepGroup groups[to_size(block_groups)];
    for (Index t = 0; t < x.rows(); t += block_rows) {
      Index const count = std::min(block_rows, x.rows() - t), at_once = block_groups / ((count + 15) / 16 * 16);
      for (Index g = 0; g < w.groups(); g += at_once) {
        Index const size = std::min(at_once, w.groups() - g);
        for (Index r = 0; r < count; ++r)
          for (Index i = 0; i < size; ++i) {
            Index const at = r * size + i, input = (g + i) * inputs_per_scale;
            groups[at] = to_steps(x[t + r].data() + input, x.columns() - input, steps + at * inputs_per_scale);
          }
        Rows const rows{steps, groups, size, g == 0};
        rows_of_block(w, rows, g, y, t, count, first, last, tiles);
      }
    }
  }

 private:
  template <class S>
  static void rows_of_block(WordPanels<S> const& w, Rows const& x, Index g, MatView<float> y, Index t, Index count,
                            Index first, Index last, [[maybe_unused]] bool tiles) noexcept {
#if AVIARY_HAS_TILES
    if constexpr (L::lanes == 16)
      if (tiles && count >= tile_rows_from<S>) return rows_on_tiles(w, x, g, y, t, count, first, last);
#endif
    if (count == 1) return one_row<row_panels>(w, x, g, y, t, first, last);
    for (Index p = first; p < last; ++p)
      for_row_tiles<tile_rows>(count, [&]<int R>(Index at) { tile<R, 1>(w, x.from(at), g, y, t + at, p); });
  }

#if AVIARY_HAS_TILES
  /// Takes the rows of a block through the panels on the matrix unit, 32 at a time. (It reads rows by sixteen: what lies behind
  /// the last one is multiplied as well, and left.)
  template <class S>
  static void rows_on_tiles(WordPanels<S> const& w, Rows const& x, Index g, MatView<float> y, Index t, Index count,
                            Index first, Index last) noexcept {
    simd::Tiles<inputs_per_scale> tiles;
    for (Index p = first; p < last; ++p) {
      auto const slice = w.slice(p, g * inputs_per_scale),
                 next = w.slice(std::min(p + 1, last - 1), g * inputs_per_scale);
      for (Index r = 0; r < count; r += 32)
        on_tiles(tiles, slice, x.from(r), y.rows(t + r, std::min(Index{32}, count - r)), p,
                 [&](Index i) AVIARY_INLINE_LAMBDA { fetch_group(next, i, r / 32, (count + 31) / 32); });
    }
  }
  /// While the unit adds up a group, for which fetch(group) is called first, the sums of the group before become floats.
  template <class S, class Fetch>
  static void on_tiles(simd::Tiles<inputs_per_scale>& tiles, PanelSlice<S> const& w, Rows const& x, MatView<float> y,
                       Index p, Fetch const& fetch) noexcept {
    alignas(64) std::int32_t parts[2][32 * to_size(panel_outputs)];
    alignas(64) std::uint32_t columns[8 * to_size(panel_outputs)];
    alignas(64) float numbers[32 * to_size(panel_outputs)];
    MatView<float> const sums(numbers, 32, panel_outputs);
    bool const both = y.rows() > 16;
    if (x.first)
      std::fill_n(numbers, y.rows() * panel_outputs, 0.0f);
    else
      copy_panel<P>(y, p * panel_outputs, sums, 0);
    auto const add = [&](Index g) AVIARY_INLINE_LAMBDA {
      P const scales[] = {simd::load<P>(w.scales + g * panel_outputs),
                          simd::load<P>(w.scales + g * panel_outputs + 16)};
      std::int32_t const* part = parts[g & 1];
      float* sum = numbers;
      for (Index r = 0; r < y.rows(); ++r, part += panel_outputs, sum += panel_outputs) {
        P const scale(x.groups[r * x.size + g].scale);
        each<packs, 1>([&](int n, int) AVIARY_INLINE_LAMBDA {
          L::store(sum + 16 * n,
                   L::fma(scales[n] * scale, Dot::number(Dot::load(part + 16 * n)), L::load(sum + 16 * n)));
        });
      }
    };
    for (Index g = 0; g < x.size; ++g) {
      fetch(g);
      std::uint32_t const* words = w.words + g * group_words<S>;
      if constexpr (std::is_same_v<S, q4>) {
        for (Index m = 0; m < group_words<S>; m += 16) Dot::spread4(words + m, columns + m / 32 * 64 + m % 32);
        words = columns;
      }
      tiles.clear();
      tiles.columns(words);
      tiles.add(x.steps + g * inputs_per_scale, x.size * inputs_per_scale, both);
      if (g > 0) add(g - 1);
      tiles.store(parts[g & 1], panel_outputs * 4, both);
    }
    add(x.size - 1);
    copy_panel<P>(sums, 0, y, p * panel_outputs);
  }
#endif

  /// Takes one row through the panels, N at a time and the rest by fewer.
  template <int N, class S>
  static void one_row(WordPanels<S> const& w, Rows const& rows, Index g, MatView<float> y, Index t, Index first,
                      Index last) noexcept {
    Index p = first;
    for (; p + N <= last; p += N) tile<1, N>(w, rows, g, y, t, p);
    if constexpr (N > 1) one_row<N / 2>(w, rows, g, y, t, p, last);
  }

  /// Computes y(t + r, outputs of panels p ... p + N - 1) over the groups of R rows, of which the first is g of the weights.
  template <int R, int N, class S>
  [[gnu::noinline]] static void tile(WordPanels<S> const& w, Rows const& x, Index g, MatView<float> y, Index t,
                                     Index p) noexcept {
    constexpr bool is_q4 = std::is_same_v<S, q4>;
    constexpr int n_packs = N * packs, excess = is_q4 ? 8 : Dot::excess, fours = is_q4 ? 2 : 1;
    constexpr Index words_per_group = inputs_per_scale / PanelSlice<S>::in_word;
    PanelSlice<S> slices[to_size(N)];
    for (int n = 0; n < N; ++n) slices[n] = w.slice(p + n, g * inputs_per_scale);
    ProductTile<P, R, n_packs> sums;
    if (x.first)
      sums.clear();
    else
      sums.load(y, t, p * panel_outputs);
    for (Index at = 0; at < x.size; ++at) {
      typename Dot::Sums part[to_size(n_packs)][to_size(R)];
      each<n_packs, R>([&](int n, int r) AVIARY_INLINE_LAMBDA { part[n][r] = Dot::set(-excess * x.group(r, at).sum); });
      AVIARY_UNROLL(8)
      for (Index m = 0; m < words_per_group; ++m)
        each<fours, n_packs>([&](int half, int n) AVIARY_INLINE_LAMBDA {
          auto const* words =
              slices[n / packs].words + (at * words_per_group + m) * panel_outputs + n % packs * L::lanes;
          auto const steps = [&]() AVIARY_INLINE_LAMBDA {
            if constexpr (is_q4)
              return Dot::steps4(words, half);
            else
              return Dot::steps8(words);
          }();
          each<1, R>([&](int, int r) AVIARY_INLINE_LAMBDA {
            part[n][r] = Dot::add(part[n][r], steps, x.four(r, at, fours * m + half));
          });
        });
      each<n_packs, 1>([&](int n, int) AVIARY_INLINE_LAMBDA {
        P const scale = simd::load<P>(slices[n / packs].scales + at * panel_outputs + n % packs * L::lanes);
        each<1, R>([&](int, int r) AVIARY_INLINE_LAMBDA {
          sums.sum[n][r] = L::fma(scale * P(x.group(r, at).scale), Dot::number(part[n][r]), sums.sum[n][r]);
        });
      });
    }
    sums.store(y, t, p * panel_outputs);
  }
};

}  // namespace AVIARY_NAMESPACE::detail
