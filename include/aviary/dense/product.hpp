#pragma once
/// Products of matrices, c += a b, with lanes along the columns of b and c.
///
/// One tile makes them all: sums for a few rows and packs of c stay in registers while the rows of b go by, and each number
/// of a is broadcast to the packs. There are no horizontal sums, and every number of c is the sum
/// fma(b_n, a_n, ... fma(b_0, a_0, c)) whatever the tile, so that a row has the same bits alone and among others.
///
/// `add_product` reads b where it lies: the small matrices of segments and chunks, on a device as well. `PanelProduct`
/// reads b in panels of 32 columns: matrices of weights, keys and values, which are large or are read many times. Gradients
/// copy b into such panels.
#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "aviary/core/view.hpp"
#include "aviary/simd/pack.hpp"
#include "aviary/simd/words.hpp"

namespace AVIARY_NAMESPACE {

/// A matrix that is read one coefficient at a time: a(i, l) = data[i * row + l * column].
template <class T> struct Coefficients {
  T const* data;
  Index rows, columns, row, column;

  AVIARY_HOST_DEVICE constexpr Coefficients(T const* d, Index m, Index n, Index row_stride,
                                            Index column_stride) noexcept
      : data(d), rows(m), columns(n), row(row_stride), column(column_stride) {}
  AVIARY_HOST_DEVICE constexpr Coefficients(MatView<T const> m) noexcept
      : Coefficients(m.data(), m.rows(), m.columns(), m.stride(), 1) {}
  AVIARY_HOST_DEVICE constexpr T operator()(Index i, Index l) const noexcept { return data[i * row + l * column]; }
  AVIARY_HOST_DEVICE constexpr Coefficients transposed() const noexcept { return {data, columns, rows, column, row}; }
};

namespace detail {

/// f(n, r) for n < N and r < R. The language unrolls it, not the optimizer: sums stay in registers.
template <int N, int R, class F> AVIARY_HOST_DEVICE AVIARY_INLINE void each(F&& f) noexcept {
  [&]<int... m>(std::integer_sequence<int, m...>) AVIARY_INLINE_LAMBDA { (f(m / R, m % R), ...); }
  (std::make_integer_sequence<int, N * R>{});
}

/// A tile of c: the sums for R rows and N packs Q of columns.
template <class Q, int R, int N = 1> struct ProductTile {
  using L = simd::Pack<Q>;
  static constexpr Index columns = N * L::lanes;
  Q sum[to_size(N)][to_size(R)];

  AVIARY_HOST_DEVICE AVIARY_INLINE void clear() noexcept {
    each<N, R>([&](int n, int r) AVIARY_INLINE_LAMBDA { sum[n][r] = Q(typename L::value_type(0)); });
  }

  /// The tile begins with row i and column j of c. Beyond the last column, load() gives zeros and store() writes nothing.
  template <class C> AVIARY_HOST_DEVICE AVIARY_INLINE void load(MatView<C> c, Index i, Index j) noexcept {
    if (j + columns <= c.columns()) return load_from(&c(i, j), c.stride());
    C edge[to_size(R * columns)] = {};
    for (Index r = 0; r < R; ++r)
      for (Index m = 0; j + m < c.columns(); ++m) edge[r * columns + m] = c(i + r, j + m);
    load_from(edge, columns);
  }
  template <class C> AVIARY_HOST_DEVICE AVIARY_INLINE void store(MatView<C> c, Index i, Index j) const noexcept {
    if (j + columns <= c.columns()) return store_to(&c(i, j), c.stride());
    C edge[to_size(R * columns)];
    store_to(edge, columns);
    for (Index r = 0; r < R; ++r)
      for (Index m = 0; j + m < c.columns(); ++m) c(i + r, j + m) = edge[r * columns + m];
  }

  /// Adds a(r, l) b(l, n) for l = first ... last - 1: a(r, l) is a number, b(l, n) a pack.
  template <class A, class B>
  AVIARY_HOST_DEVICE AVIARY_INLINE void add(Index first, Index last, A const& a, B const& b) noexcept {
    add_words<1>(first, last, a, [&](Index l, int, int n) AVIARY_INLINE_LAMBDA { return b(l, n); });
  }
  /// The same where b comes in words of several l: adds a(r, in_word m + k) b(m, k, n) for words m = first ... last - 1 and
  /// k < in_word.
  template <int in_word, class A, class B>
  AVIARY_HOST_DEVICE AVIARY_INLINE void add_words(Index first, Index last, A const& a, B const& b) noexcept {
    for (Index m = first; m < last; ++m) {
      each<in_word, N>([&](int k, int n) AVIARY_INLINE_LAMBDA {
        Q const pack = L::opaque(b(m, k, n));  // else compilers load it again for each row
        each<1, R>([&](int, int r)
                       AVIARY_INLINE_LAMBDA { sum[n][r] = L::fma(pack, Q(a(r, in_word * m + k)), sum[n][r]); });
      });
    }
  }
  /// Adds part times scale(n), a pack for each column of the tile.
  template <class Scale>
  AVIARY_HOST_DEVICE AVIARY_INLINE void add_scaled(ProductTile const& part, Scale const& scale) noexcept {
    each<N, 1>([&](int n, int) AVIARY_INLINE_LAMBDA {
      Q const pack = scale(n);
      each<1, R>([&](int, int r) AVIARY_INLINE_LAMBDA { sum[n][r] = L::fma(pack, part.sum[n][r], sum[n][r]); });
    });
  }

 private:
  template <class C> AVIARY_HOST_DEVICE AVIARY_INLINE void load_from(C const* c, Index stride) noexcept {
    each<N, R>([&](int n, int r) AVIARY_INLINE_LAMBDA { sum[n][r] = simd::load<Q>(c + r * stride + n * L::lanes); });
  }
  template <class C> AVIARY_HOST_DEVICE AVIARY_INLINE void store_to(C* c, Index stride) const noexcept {
    each<N, R>([&](int n, int r) AVIARY_INLINE_LAMBDA { simd::store(c + r * stride + n * L::lanes, sum[n][r]); });
  }
};

/// Calls f.operator()<R>(i) for tiles of R rows that make up n: as many as fit of `most` rows, then of a third, then of
/// one.
template <int most, class F> AVIARY_HOST_DEVICE AVIARY_INLINE void for_row_tiles(Index n, F&& f) noexcept {
  constexpr int fewer = most / 3 > 1 ? most / 3 : 1;
  Index i = 0;
  for (Index const end = n - n % most; i < end; i += most) f.template operator()<most>(i);
  for (Index const end = n - n % most % fewer; i < end; i += fewer) f.template operator()<fewer>(i);
  if constexpr (fewer > 1)
    for (; i < n; ++i) f.template operator()<1>(i);
}

}  // namespace detail

/// c += a b, in the order of a's columns.  c: M x N, a: M x L, b: L x N; c overlaps neither. Numbers of c and b may be
/// stored in other types than P's.  Cost: 2 L M N flops.
template <class P, class C, class T, class B>
AVIARY_HOST_DEVICE void add_product(MatView<C> c, Coefficients<T> a, MatView<B> b) noexcept {
  AVIARY_ASSERT(c.rows() == a.rows && c.columns() == b.columns() && a.columns == b.rows());
  simd::for_packs<P>(0, c.columns(), [&]<class Q>(Index j) {
    auto const packs = [&](Index l, int) AVIARY_INLINE_LAMBDA { return simd::load_part<Q>(&b(l, 0), j, b.columns()); };
    detail::for_row_tiles<4>(c.rows(), [&]<int R>(Index i) {
      detail::ProductTile<Q, R> tile;
      tile.load(c, i, j);
      tile.add(
          0, a.columns, [&](int r, Index l) AVIARY_INLINE_LAMBDA { return a(i + r, l); }, packs);
      tile.store(c, i, j);
    });
  });
}

namespace detail {

inline constexpr Index panel_outputs = 32;     ///< the same for all instruction sets, as is the layout
inline constexpr Index inputs_per_scale = 32;  ///< with q8 and q4

/// Where the weights of a panel lie from some input on: 32 numbers of type S for each input or, where S lies in words
/// (simd/words.hpp), 32 words for each few inputs. With scales it is the first input of a scale.
template <class S> struct PanelSlice {
  static constexpr int in_word = std::max(1, simd::numbers_per_word<S>);
  using Word = std::conditional_t<simd::numbers_per_word<S> == 0, S, std::uint32_t>;

  Word const* words;
  bf16 const* scales;  ///< if any: 32 for every 32 inputs

  /// The weights of input in_word m + k, from output `first` on. (S stands for itself where it is no complete type.)
  template <class Q> AVIARY_INLINE Q load(Index m, int k, Index first) const noexcept {
    if constexpr (in_word == 1)
      return simd::load<Q>(words + m * panel_outputs + first);
    else
      return simd::load_from_words<Q, S>(words + m * panel_outputs + first, k);
  }
};

/// Copies the 32 columns from column `first` on to column `begin`, of as many rows as the smaller matrix has. Beyond its last
/// column a matrix has zeros, and takes nothing.
template <class P> void copy_panel(MatView<float> from, Index first, MatView<float> to, Index begin) noexcept {
  ProductTile<P, 1, static_cast<int>(panel_outputs / simd::Pack<P>::lanes)> row;
  for (Index r = 0; r < std::min(from.rows(), to.rows()); ++r) {
    row.load(from, r, first);
    row.store(to, r, begin);
  }
}

/// y = x w for rows x and weights w in panels (see panels.hpp), with packs P. A product with one row reads all weights
/// once, in the order in which they lie. One with more rows first copies blocks of x, and one with many blocks of w where it
/// is stored in another type: few rows widen the weights in registers.
template <class P> class PanelProduct {
  using L = simd::Pack<P>;
  using T = typename L::value_type;
  static constexpr int packs = static_cast<int>(panel_outputs / L::lanes);
  using Row = simd::Wide<P, packs>;  // a row of a panel
  using LR = simd::Pack<Row>;

  /// Panels and rows of a tile: three quarters of the registers hold sums, the rest what enters them. There are about as
  /// many packs as rows, because both are loaded.
  static constexpr int tile_panels = std::max(1, 4 / packs);
  static constexpr int tile_rows = std::max(1, L::registers * 3 / 4 / packs / tile_panels);
  /// Panels that a single row takes at once: eight sums hide the latency of an addition.
  static constexpr int row_panels = std::max(1, 8 / packs);
  /// Rows from which on it pays to widen a block of weights once for all of them: more than a few tiles, if they are large.
  /// (Layers of double are for tests and training: their code is kept small.)
  static constexpr Index many_rows = tile_rows >= 6 && sizeof(T) == sizeof(float) ? 3 * tile_rows : 2;
  /// Inputs and rows of a block: 32 KiB of x and 32 KiB of weights are copied to lie side by side as T.
  static constexpr Index depth = 512 / static_cast<Index>(sizeof(T));
  static constexpr Index block_rows = (64 + tile_rows - 1) / tile_rows * tile_rows;

  /// Panels that `add` copies at once, 64 KiB, and the rows of c that it takes through them: what these have there, and what
  /// they are made of, stay in second-level cache.
  static constexpr Index strip_panels = 4, strip_rows = 512;

  /// Inputs first ... last - 1, whole words. With them sums begin, or they go on from what there is.
  struct Range {
    Index first, last;
    bool begins;
    Index size() const noexcept { return last - first; }
  };

  /// Rows of x, copied to lie side by side.
  struct Block {
    T const* numbers;
    Block from(Index r) const noexcept { return {numbers + r * depth}; }
    AVIARY_INLINE T operator()(int r, Index i) const noexcept { return numbers[r * depth + i]; }
  };
  /// Rows of a matrix or of its transpose, where they lie.
  template <bool transposed> struct InPlace {
    T const* numbers;
    Index stride;
    InPlace from(Index r) const noexcept { return {numbers + (transposed ? r : r * stride), stride}; }
    AVIARY_INLINE T operator()(int r, Index i) const noexcept {
      return transposed ? numbers[i * stride + r] : numbers[r * stride + i];
    }
  };

  /// Some rows of a matrix, in panels.
  struct Strip {
    using Slice = PanelSlice<T>;
    static constexpr bool has_scales = false;
    T const* numbers;
    Slice slice(Index p, Index) const noexcept { return {numbers + p * depth * panel_outputs, nullptr}; }
  };

 public:
  /// Computes y(t, o) for rows x (tokens, in) and the outputs o of panels first ... last - 1, as far as y has them.
  template <class Panels>
  static void run(Panels const& w, MatView<T const> x, MatView<T> y, Index first, Index last) noexcept {
    constexpr Index in_word = Panels::Slice::in_word;
    Index const in = (x.columns() + in_word - 1) / in_word * in_word;
    if (x.rows() == 1 && in == x.columns())
      return one_row<row_panels>(w, Block{x.data()}, {0, in, true}, y, 0, first, last);
    alignas(64) T block[to_size(depth * block_rows)];
    for (Index t = 0; t < x.rows(); t += block_rows)
      for (Index i = 0; i == 0 || i < in; i += depth) {  // without inputs, too, the outputs are 0
        Range const inputs{i, std::min(i + depth, in), i == 0};
        Index const count = std::min(block_rows, x.rows() - t), given = std::min(inputs.last, x.columns()) - i;
        for (Index at = 0; at < count; ++at) {
          std::copy_n(x[t + at].data() + i, given, block + at * depth);
          std::fill_n(block + at * depth + given, inputs.size() - given, T(0));
        }
        all_rows(w, Block{block}, count, inputs, y, t, first, last);
      }
  }

  /// c += a b, for a (M x L) or, if it is transposed, (L x M), and b (L x N), of which panel(l, n, j, to) writes the numbers in
  /// rows l ... l + n - 1 and columns j ... j + 31, row after row. Beyond N they are any.
  ///   Stack: 64 KiB, and what panel() needs.
  template <bool transposed, class Panel>
  static void add(MatView<T> c, MatView<T const> a, Panel const& panel) noexcept {
    constexpr Index strip_columns = strip_panels * panel_outputs;
    alignas(64) T strip[to_size(strip_panels * depth * panel_outputs)];
    Index const size = transposed ? a.rows() : a.columns();
    for (Index j = 0; j < c.columns(); j += strip_columns)
      for (Index i = 0; i < c.rows(); i += strip_rows) {
        MatView<T> const to(c[i].data() + j, std::min(strip_rows, c.rows() - i),
                            std::min(strip_columns, c.columns() - j), c.stride());
        Index const panels = (to.columns() + panel_outputs - 1) / panel_outputs;
        for (Index l = 0; l < size; l += depth) {
          Range const range{l, std::min(l + depth, size), false};
          for (Index p = 0; p < panels; ++p)
            panel(l, range.size(), j + p * panel_outputs, strip + p * depth * panel_outputs);
          InPlace<transposed> const rows{transposed ? a[l].data() + i : a[i].data() + l, a.stride()};
          all_rows(Strip{strip}, rows, to.rows(), range, to, 0, 0, panels);
        }
      }
  }

 private:
  /// Takes the rows of a block through the panels.
  template <class Panels, class X>
  static void all_rows(Panels const& w, X const& block, Index count, Range inputs, MatView<T> y, Index t, Index first,
                       Index last) noexcept {
    if (tile_rows == 1 || count == 1)
      for (Index at = 0; at < count; ++at) one_row<row_panels>(w, block.from(at), inputs, y, t + at, first, last);
    else
      rows_of_block<tile_panels>(w, block, count, inputs, y, t, first, last);
  }

  /// Takes one row through the panels, N at a time and the rest by fewer.
  template <int N, class Panels, class X>
  static void one_row(Panels const& w, X const& x, Range inputs, MatView<T> y, Index t, Index first,
                      Index last) noexcept {
    Index p = first;
    for (; p + N <= last; p += N) tile<1, N, Panels::has_scales>(slices<N>(w, p, inputs.first), x, inputs, y, t, p);
    if constexpr (N > 1) one_row<N / 2>(w, x, inputs, y, t, p, last);
  }

  /// Takes the rows of a block through the panels, N at a time and the rest one by one.
  template <int N, class Panels, class X>
  static void rows_of_block(Panels const& w, X const& block, Index count, Range inputs, MatView<T> y, Index t,
                            Index first, Index last) noexcept {
    alignas(64) T numbers[to_size(N)][to_size(depth * panel_outputs)];
    Index p = first;
    for (; p + N <= last; p += N) {
      auto const rows_by = [&](auto const& weights) {
        for_row_tiles<tile_rows>(count, [&]<int R>(Index at) {
          tile<R, N, Panels::has_scales>(weights, block.from(at), inputs, y, t + at, p);
        });
      };
      auto const stored = slices<N>(w, p, inputs.first);
      if constexpr (std::is_same_v<typename Panels::Slice, PanelSlice<T>>) {
        rows_by(stored);
      } else {
        if constexpr (many_rows > 2)
          if (count < many_rows) {
            rows_by(stored);
            continue;
          }
        rows_by(widened(stored, inputs.size(), numbers));
      }
    }
    if constexpr (N > 1) rows_of_block<1>(w, block, count, inputs, y, t, p, last);
  }

  template <int N, class Panels> static AVIARY_INLINE auto slices(Panels const& w, Index p, Index first) noexcept {
    return [&]<int... n>(std::integer_sequence<int, n...>) AVIARY_INLINE_LAMBDA {
      return std::array{w.slice(p + n, first)...};
    }
    (std::make_integer_sequence<int, N>{});
  }

  /// The weights of n inputs as numbers of type T, without their scales, in `to`.
  template <std::size_t N, class S>
  static std::array<PanelSlice<T>, N> widened(std::array<PanelSlice<S>, N> const& from, Index n,
                                              T (&to)[N][to_size(depth * panel_outputs)]) noexcept {
    constexpr int in_word = PanelSlice<S>::in_word;
    std::array<PanelSlice<T>, N> slices;
    for (std::size_t p = 0; p < N; ++p) {
      for (Index m = 0; m < n / in_word; ++m)
        each<in_word, 1>([&](int k, int) AVIARY_INLINE_LAMBDA {
          LR::store(to[p] + (in_word * m + k) * panel_outputs, from[p].template load<Row>(m, k, 0));
        });
      slices[p] = {to[p], from[p].scales};
    }
    return slices;
  }

  /// Computes y(t + r, outputs of panels p ... p + N - 1) over a range of inputs, for R rows of x. It is not inlined: what a
  /// caller keeps in registers would leave too few for the sums.
  template <int R, int N, bool scaled, class S, class X>
  [[gnu::noinline]] static void tile(std::array<PanelSlice<S>, to_size(N)> const& w, X x, Range inputs, MatView<T> y,
                                     Index t, Index p) noexcept {
    constexpr int in_word = PanelSlice<S>::in_word;
    constexpr Index words_per_scale = inputs_per_scale / in_word;
    auto const b = [&w](Index m, int k, int n) AVIARY_INLINE_LAMBDA {
      return w[to_size(n / packs)].template load<P>(m, k, n % packs * L::lanes);
    };
    Index const words = inputs.size() / in_word;
    ProductTile<P, R, N * packs> sums;
    if (inputs.begins)
      sums.clear();
    else
      sums.load(y, t, p * panel_outputs);
    if constexpr (scaled) {
      for (Index m = 0; m < words; m += words_per_scale) {
        ProductTile<P, R, N * packs> part;
        part.clear();
        part.template add_words<in_word>(m, std::min(m + words_per_scale, words), x, b);
        sums.add_scaled(part, [&](int n) AVIARY_INLINE_LAMBDA {
          return simd::load<P>(w[to_size(n / packs)].scales + m / words_per_scale * panel_outputs +
                               n % packs * L::lanes);
        });
      }
    } else {
      sums.template add_words<in_word>(0, words, x, b);
    }
    sums.store(y, t, p * panel_outputs);
  }
};

}  // namespace detail
}  // namespace AVIARY_NAMESPACE
