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
#include <string>
#include <utility>

#include "aviary/core/aligned.hpp"
#include "aviary/core/error.hpp"
#include "aviary/core/q8.hpp"
#include "aviary/dense/weights.hpp"
#include "aviary/simd/pack.hpp"

namespace aviary::detail {

inline constexpr Index panel_outputs = 32;     ///< whatever the instruction set: so is the layout
inline constexpr Index inputs_per_scale = 32;  ///< of q8

/// Where the weights of a panel lie from some input on, of which the first has a scale of its own.
template <class S> struct PanelSlice {
  S const* numbers;
  bf16 const* scales;  ///< of q8: a row for every 32 inputs
};

/// in x out weights as numbers of type S that lie somewhere else, panel after panel.
template <Stored S> struct PanelsView {
  static constexpr bool has_scales = false;
  S const* numbers;
  Index in;

  PanelSlice<S> slice(Index p, Index i) const noexcept { return {numbers + (p * in + i) * panel_outputs, nullptr}; }
};

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

  PanelSlice<S> slice(Index p, Index i) const noexcept { return PanelsView<S>{numbers_.data(), in_}.slice(p, i); }

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

/// The product of panels and rows, with packs P.
template <class P> class PanelProduct {
  using L = simd::Pack<P>;
  using T = typename L::value_type;
  static constexpr int packs = static_cast<int>(panel_outputs / L::lanes);
  using Row = simd::Wide<P, packs>;  // a row of a panel
  using LR = simd::Pack<Row>;

  /// Panels and rows of a tile: three quarters of the registers hold their sums, the rest what enters them. About as many
  /// packs as rows, as both are loaded.
  static constexpr int tile_panels = std::max(1, 4 / packs);
  static constexpr int tile = std::max(1, L::registers * 3 / 4 / packs / tile_panels);
  /// Panels that a single row takes: eight sums hide how long an addition takes.
  static constexpr int panels = std::max(1, 8 / packs);
  /// Inputs and rows of a block: 32 KiB of x, and 32 KiB of weights, are copied to lie side by side as T.
  static constexpr Index depth = 512 / static_cast<Index>(sizeof(T)), rows = (64 + tile - 1) / tile * tile;

  struct Range {
    Index first, last;
    Index size() const noexcept { return last - first; }
  };
  /// Where outputs go: those of panel p and further ones, of rows t and further ones.
  struct Target {
    MatView<T> y;
    Index t, p;
  };

 public:
  /// y(t, o) for rows x (tokens, in) and the outputs o of panels first ... last - 1, as far as y has them.
  template <class Panels>
  static void run(Panels const& w, MatView<T const> x, MatView<T> y, Index first, Index last) noexcept {
    if (x.rows() == 1) return one_row<panels>(w, x.data(), {0, x.columns()}, y, 0, first, last);
    alignas(64) T block[to_size(depth * rows)];
    for (Index t = 0; t < x.rows(); t += rows)
      for (Index i = 0; i < x.columns(); i += depth) {
        Range const inputs{i, std::min(i + depth, x.columns())};
        Index const count = std::min(rows, x.rows() - t);
        for (Index at = 0; at < count; ++at) std::copy_n(&x(t + at, i), inputs.size(), block + at * depth);
        if constexpr (tile == 1)
          for (Index at = 0; at < count; ++at) one_row<panels>(w, block + at * depth, inputs, y, t + at, first, last);
        else
          rows_of_block<tile_panels>(w, block, count, inputs, y, t, first, last);
      }
  }

 private:
  /// One row and all panels, N at a time and the rest by fewer.
  template <int N, class Panels>
  static void one_row(Panels const& w, T const* x, Range inputs, MatView<T> y, Index t, Index first,
                      Index last) noexcept {
    Index p = first;
    for (; p + N <= last; p += N) {
      auto const slices = make<N>([&](int n) AVIARY_INLINE_LAMBDA { return w.slice(p + n, inputs.first); });
      sums<1, N, Panels::has_scales>(slices, x, inputs, {y, t, p});
    }
    if constexpr (N > 1) one_row<N / 2>(w, x, inputs, y, t, p, last);
  }

  /// The rows of a block and all panels, N at a time and the rest one by one.
  template <int N, class Panels>
  static void rows_of_block(Panels const& w, T const* block, Index count, Range inputs, MatView<T> y, Index t,
                            Index first, Index last) noexcept {
    alignas(64) T numbers[to_size(N)][to_size(depth * panel_outputs)];
    Index p = first;
    for (; p + N <= last; p += N) {
      auto const slices = make<N>([&](int n) AVIARY_INLINE_LAMBDA {
        return as_numbers(w.slice(p + n, inputs.first), inputs.size(), numbers[n]);
      });
      each_tile(count, [&]<int R>(Index at) {
        sums<R, N, Panels::has_scales>(slices, block + at * depth, inputs, {y, t + at, p});
      });
    }
    if constexpr (N > 1) rows_of_block<1>(w, block, count, inputs, y, t, p, last);
  }

  /// f.operator()<R>(at) for tiles of R rows that make up n.
  template <class F> static AVIARY_INLINE void each_tile(Index n, F&& f) noexcept {
    constexpr int smaller = std::max(1, tile / 3);
    Index at = 0;
    for (; at + tile <= n; at += tile) f.template operator()<tile>(at);
    for (; at + smaller <= n; at += smaller) f.template operator()<smaller>(at);
    for (; at < n; ++at) f.template operator()<1>(at);
  }

  /// The weights of n inputs as numbers of type T, which many rows read: where they lie, or in `to`. Scales stay apart.
  template <class S> static PanelSlice<T> as_numbers(PanelSlice<S> from, Index n, T* to) noexcept {
    if constexpr (std::is_same_v<S, T>) {
      return from;
    } else {
      for (Index i = 0; i < n * panel_outputs; i += panel_outputs) LR::store(to + i, simd::load<Row>(from.numbers + i));
      return {to, from.scales};
    }
  }

  /// y(t + r, outputs of N panels) over a range of inputs, for R rows that lie `depth` apart; a range that does not begin
  /// with the first input goes on from what is in y.
  template <int R, int N, bool scaled, class S>
  static void sums(std::array<PanelSlice<S>, to_size(N)> w, T const* x, Range inputs, Target const& to) noexcept {
    bool const whole = (to.p + N) * panel_outputs <= to.y.columns();
    T* const y = &to.y(to.t, to.p * panel_outputs);
    auto const at = [&](int n, int r) AVIARY_INLINE_LAMBDA { return y + r * to.y.stride() + n * panel_outputs; };
    Row sum[to_size(N)][to_size(R)];
    if (inputs.first == 0)
      each<N, R>([&](int n, int r) AVIARY_INLINE_LAMBDA { sum[n][r] = Row(T(0)); });
    else if (whole)
      each<N, R>([&](int n, int r) AVIARY_INLINE_LAMBDA { sum[n][r] = LR::load(at(n, r)); });
    else
      each<N, R>([&](int n, int r) AVIARY_INLINE_LAMBDA { sum[n][r] = load_part(to, n, r); });
    for (Index i = inputs.first; i < inputs.last; i += inputs_per_scale, x += inputs_per_scale) {
      Index const count = std::min(inputs_per_scale, inputs.last - i);
      if constexpr (scaled) {
        Row part[to_size(N)][to_size(R)];
        each<N, R>([&](int n, int r) AVIARY_INLINE_LAMBDA { part[n][r] = Row(T(0)); });
        add<R, N>(w, x, count, part);
        each<N, 1>([&](int n, int) AVIARY_INLINE_LAMBDA {
          Row const scale = simd::load<Row>(w[to_size(n)].scales);
          w[to_size(n)].scales += panel_outputs;
          each<1, R>([&](int, int r) AVIARY_INLINE_LAMBDA { sum[n][r] = LR::fma(scale, part[n][r], sum[n][r]); });
        });
      } else {
        add<R, N>(w, x, count, sum);
      }
    }
    if (whole)
      each<N, R>([&](int n, int r) AVIARY_INLINE_LAMBDA { LR::store(at(n, r), sum[n][r]); });
    else
      each<N, R>([&](int n, int r) AVIARY_INLINE_LAMBDA { store_part(to, n, r, sum[n][r]); });
  }

  /// sum += the next `count` inputs of N panels, for R rows.
  template <int R, int N, class S>
  static AVIARY_INLINE void add(std::array<PanelSlice<S>, to_size(N)>& w, T const* x, Index count,
                                Row (&sum)[to_size(N)][to_size(R)]) noexcept {
    for (T const* const end = x + count; x != end; ++x)
      each<N, 1>([&](int n, int) AVIARY_INLINE_LAMBDA {
        Row const weights = simd::load<Row>(w[to_size(n)].numbers);
        w[to_size(n)].numbers += panel_outputs;
        each<1, R>([&](int, int r)
                       AVIARY_INLINE_LAMBDA { sum[n][r] = LR::fma(weights, Row(x[r * depth]), sum[n][r]); });
      });
  }

  /// f(n, r) for n < N and r < R, and {f(0), ... f(N - 1)}, unrolled by the language.
  template <int N, int R, class F> static AVIARY_INLINE void each(F&& f) noexcept {
    [&]<int... m>(std::integer_sequence<int, m...>) AVIARY_INLINE_LAMBDA { (f(m / R, m % R), ...); }
    (std::make_integer_sequence<int, N * R>{});
  }
  template <int N, class F> static AVIARY_INLINE auto make(F&& f) noexcept {
    return [&]<int... n>(std::integer_sequence<int, n...>) AVIARY_INLINE_LAMBDA { return std::array{f(n)...}; }
    (std::make_integer_sequence<int, N>{});
  }

  /// Outputs of panel p + n in row t + r, as far as there are so many.
  static AVIARY_INLINE Row load_part(Target const& to, int n, int r) noexcept {
    return Row::make([&](int part) AVIARY_INLINE_LAMBDA {
      Index const o = (to.p + n) * panel_outputs + part * L::lanes;
      return o < to.y.columns() ? simd::load_part<P>(&to.y(to.t + r, 0), o, to.y.columns()) : P(T(0));
    });
  }
  static AVIARY_INLINE void store_part(Target const& to, int n, int r, Row const& x) noexcept {
    for (int part = 0; part < packs; ++part)
      if (Index const o = (to.p + n) * panel_outputs + part * L::lanes; o < to.y.columns())
        simd::store_part(&to.y(to.t + r, 0), o, to.y.columns(), x.part[part]);
  }
};

}  // namespace aviary::detail
