#pragma once
/// Matrices of weights in panels, and their products with rows of numbers.
///
/// A panel is 32 outputs: for each input the 32 weights lie side by side, and follow those of the input before. Outputs lie
/// along the SIMD lanes, so there are no horizontal sums; a product with one row reads all weights once, in the order in
/// which they lie; one with many rows keeps a tile of outputs x rows in registers. Every output is the sum
/// fma(w_n, x_n, ... fma(w_0, x_0, 0)) whatever the tile, with scales by parts of 32 inputs, so that a row has the same bits
/// alone and among others.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "aviary/core/aligned.hpp"
#include "aviary/layers/weights.hpp"
#include "aviary/simd/pack.hpp"

namespace aviary::detail {

inline constexpr Index panel_outputs = 32;     ///< whatever the instruction set: so is the layout
inline constexpr Index inputs_per_scale = 32;  ///< of q8

/// in x out weights as numbers of type S.
template <Stored S> class NumberPanels {
 public:
  static constexpr bool has_scales = false;

  NumberPanels(Index in, Index panels) : in_(in), numbers_(to_size(in * panels * panel_outputs)) {}

  /// Keeps the weights (input, output) of one panel: weights(i, o) as w[i * panel_outputs + o].
  template <class T> void set(Index p, T const* w) {
    convert(w, numbers_.data() + p * in_ * panel_outputs, in_ * panel_outputs);
  }

  std::size_t bytes() const noexcept { return numbers_.size() * sizeof(S); }

  /// Reads rows of a panel, input after input.
  template <class Row> struct Reader {
    S const* at;
    AVIARY_INLINE Row next() noexcept {
      Row const w = simd::load<Row>(at);
      at += panel_outputs;
      return w;
    }
  };
  /// From input i on, of which the first begins a group.
  template <class Row> Reader<Row> reader(Index p, Index i) const noexcept {
    return {numbers_.data() + (p * in_ + i) * panel_outputs};
  }

 private:
  Index in_;
  AlignedVector<S> numbers_;
};

/// The same as whole numbers from -127 to 127, times a scale for each output and 32 inputs.
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

  template <class Row> struct Reader {
    std::int8_t const* at;
    bf16 const* scales;
    AVIARY_INLINE Row next() noexcept {
      Row const w = simd::load<Row>(at);
      at += panel_outputs;
      return w;
    }
    /// Of the inputs just read, every 32.
    AVIARY_INLINE Row next_scale() noexcept {
      Row const scale = simd::load<Row>(scales);
      scales += panel_outputs;
      return scale;
    }
  };
  template <class Row> Reader<Row> reader(Index p, Index i) const noexcept {
    return {numbers_.data() + (p * in_ + i) * panel_outputs,
            scales_.data() + (p * groups_ + i / inputs_per_scale) * panel_outputs};
  }

 private:
  template <class T> void set_group(Index p, Index g, Index o, T const* w) {
    Index const first = g * inputs_per_scale, last = std::min(first + inputs_per_scale, in_);
    float most = 0;
    for (Index i = first; i < last; ++i) most = std::max(most, std::abs(finite(w[i * panel_outputs + o])));
    bf16 const scale = scale_of(most);
    scales_[to_size((p * groups_ + g) * panel_outputs + o)] = scale;
    if (scale == bf16{0}) return;
    for (Index i = first; i < last; ++i) {
      float const steps = std::nearbyint(static_cast<float>(w[i * panel_outputs + o]) / widen(scale));
      numbers_[to_size((p * in_ + i) * panel_outputs + o)] = static_cast<std::int8_t>(steps);
    }
  }
  template <class T> static float finite(T x) {
    if (!(std::abs(x) <= T(std::numeric_limits<float>::max())))
      throw std::invalid_argument("aviary: a weight is " + std::to_string(x) + ", expected finite numbers for q8");
    return static_cast<float>(x);
  }
  /// 1/127 of the largest number, rounded up, so that none is cut off; 0 for numbers that are next to nothing.
  static bf16 scale_of(float most) noexcept {
    bf16 scale = narrow<bf16>(most / 127);
    if (widen(scale) * 127 < most) ++scale.bits;
    return widen(scale) < std::numeric_limits<float>::min() ? bf16{0} : scale;
  }

  Index in_, groups_;
  AlignedVector<std::int8_t> numbers_;
  AlignedVector<bf16> scales_;
};

/// The product of panels and rows, with packs P.
template <class P> class PanelProduct {
  using L = simd::Pack<P>;
  using T = typename L::value_type;
  static constexpr int packs = static_cast<int>(panel_outputs / L::lanes);
  using Row = simd::Wide<P, packs>;  // a row of a panel
  using LR = simd::Pack<Row>;

  /// Rows x that a tile takes: three quarters of the registers hold their sums, the rest what enters them.
  static constexpr int tile = std::max(1, L::registers * 3 / 4 / packs);
  /// Panels that a single row takes: eight sums hide how long an addition takes.
  static constexpr int panels = std::max(1, 8 / packs);
  /// Inputs and rows of a block, whose numbers are copied to lie in the order of use: at most 24 KiB.
  static constexpr Index depth = 512 / static_cast<Index>(sizeof(T)), rows = 48;

 public:
  /// y(t, o) for rows x (tokens, in) and the outputs o of panels first ... last - 1, as far as y has them.
  template <class Panels>
  static void run(Panels const& w, MatView<T const> x, MatView<T> y, Index first, Index last) noexcept {
    if (x.rows() == 1) return one_row<panels>(w, x.data(), Range{0, x.columns()}, y, 0, first, last);
    alignas(64) T block[to_size(depth * rows)];
    for (Index t = 0; t < x.rows(); t += rows)
      for (Index i = 0; i < x.columns(); i += depth) {
        Range const inputs{i, std::min(i + depth, x.columns())};
        Index const count = std::min(rows, x.rows() - t), n = inputs.last - inputs.first;
        each_tile(count, [&]<int R>(Index at) { interleave<R>(x.rows(t + at, R), inputs, block + at * n); });
        if constexpr (tile == 1) {
          for (Index at = 0; at < count; ++at) one_row<panels>(w, block + at * n, inputs, y, t + at, first, last);
        } else {
          for (Index p = first; p < last; ++p)
            each_tile(count, [&]<int R>(Index at) { sums<R, 1>(w, block + at * n, inputs, y, t + at, p); });
        }
      }
  }

 private:
  struct Range {
    Index first, last;
  };

  /// f.operator()<R>(at) for tiles of R rows that make up n.
  template <class F> static AVIARY_INLINE void each_tile(Index n, F&& f) noexcept {
    constexpr int smaller = std::max(1, tile / 3);
    Index at = 0;
    for (; at + tile <= n; at += tile) f.template operator()<tile>(at);
    for (; at + smaller <= n; at += smaller) f.template operator()<smaller>(at);
    for (; at < n; ++at) f.template operator()<1>(at);
  }

  /// to[i * R + t] = x(t, inputs.first + i)
  template <int R> static void interleave(MatView<T const> x, Range inputs, T* to) noexcept {
    for (int t = 0; t < R; ++t)
      for (Index i = inputs.first; i < inputs.last; ++i) to[(i - inputs.first) * R + t] = x(t, i);
  }

  /// One row and all panels, N at a time and the rest by fewer.
  template <int N, class Panels>
  static void one_row(Panels const& w, T const* x, Range inputs, MatView<T> y, Index t, Index first,
                      Index last) noexcept {
    Index p = first;
    for (; p + N <= last; p += N) sums<1, N>(w, x, inputs, y, t, p);
    if constexpr (N > 1) one_row<N / 2>(w, x, inputs, y, t, p, last);
  }

  /// y(t + r, outputs of N panels) over a range of inputs, for R interleaved rows; a range that does not begin with the
  /// first input goes on from what is in y.
  template <int R, int N, class Panels>
  static void sums(Panels const& w, T const* x, Range inputs, MatView<T> y, Index t, Index p) noexcept {
    auto reader = [&]<int... n>(std::integer_sequence<int, n...>) {
      return std::array{w.template reader<Row>(p + n, inputs.first)...};
    }
    (std::make_integer_sequence<int, N>{});
    Row sum[to_size(N)][to_size(R)];
    each<N, R>([&](int n, int r) AVIARY_INLINE_LAMBDA {
      sum[n][r] = inputs.first == 0 ? Row(T(0)) : load(y, t + r, (p + n) * panel_outputs);
    });
    for (Index i = inputs.first; i < inputs.last; i += inputs_per_scale, x += inputs_per_scale * R) {
      Index const count = std::min(inputs_per_scale, inputs.last - i);
      if constexpr (Panels::has_scales) {
        Row part[to_size(N)][to_size(R)];
        each<N, R>([&](int n, int r) AVIARY_INLINE_LAMBDA { part[n][r] = Row(T(0)); });
        add<R, N>(reader, x, count, part);
        each<N, 1>([&](int n, int) AVIARY_INLINE_LAMBDA {
          Row const scale = reader[to_size(n)].next_scale();
          each<1, R>([&](int, int r) AVIARY_INLINE_LAMBDA { sum[n][r] = LR::fma(scale, part[n][r], sum[n][r]); });
        });
      } else {
        add<R, N>(reader, x, count, sum);
      }
    }
    each<N, R>([&](int n, int r) AVIARY_INLINE_LAMBDA { store(y, t + r, (p + n) * panel_outputs, sum[n][r]); });
  }

  /// sum += the next `count` inputs of N panels, for R interleaved rows.
  template <int R, int N, class Readers>
  static AVIARY_INLINE void add(Readers& reader, T const* x, Index count, Row (&sum)[to_size(N)][to_size(R)]) noexcept {
    for (T const* const end = x + count * R; x != end; x += R)
      each<N, 1>([&](int n, int) AVIARY_INLINE_LAMBDA {
        Row const weights = reader[to_size(n)].next();
        each<1, R>([&](int, int r) AVIARY_INLINE_LAMBDA { sum[n][r] = LR::fma(weights, Row(x[r]), sum[n][r]); });
      });
  }

  /// f(n, r) for n < N and r < R, unrolled by the language.
  template <int N, int R, class F> static AVIARY_INLINE void each(F&& f) noexcept {
    [&]<int... m>(std::integer_sequence<int, m...>) AVIARY_INLINE_LAMBDA { (f(m / R, m % R), ...); }
    (std::make_integer_sequence<int, N * R>{});
  }

  /// Outputs o ... o + 31 of row t, as far as there are so many.
  static AVIARY_INLINE Row load(MatView<T> y, Index t, Index o) noexcept {
    return Row::make([&](int n) AVIARY_INLINE_LAMBDA {
      Index const at = o + n * L::lanes;
      return at < y.columns() ? simd::load_part<P>(&y(t, 0), at, y.columns()) : P(T(0));
    });
  }
  static AVIARY_INLINE void store(MatView<T> y, Index t, Index o, Row const& x) noexcept {
    for (int n = 0; n < packs; ++n)
      if (Index const at = o + n * L::lanes; at < y.columns()) simd::store_part(&y(t, 0), at, y.columns(), x.part[n]);
  }
};

}  // namespace aviary::detail
