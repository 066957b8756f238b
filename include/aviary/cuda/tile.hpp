#pragma once
/// A state in the registers of a block's threads.
#include "aviary/cuda/groups.hpp"
#include "aviary/matrix/pass.hpp"

namespace AVIARY_NAMESPACE::cuda {

AVIARY_HOST_DEVICE constexpr int power_of_two_from(Index n) noexcept {
  int p = 1;
  while (p < n) p *= 2;
  return p;
}

/// Lanes that share a column of a state with K keys: each has 16 of them at most.
template <Index K> inline constexpr int lanes_of_column = power_of_two_from((K + 15) / 16);

/// Four neighbouring numbers of a row in shared memory, or two.
template <class T> struct alignas(4 * sizeof(T)) Four { T x[4]; };
template <class T> struct alignas(2 * sizeof(T)) Two { T x[2]; };

/// How the K x V numbers of a state are dealt out to threads, or those of `Width` columns of it: neighbouring lanes have four keys
/// each by turns, up to 16 in all, and `Columns` columns. Rows of numbers along keys have `Row` of them.
template <class T, Index K, Index V, Index Row, int Width, int Columns> struct Tile {
  static_assert(K != dynamic && V != dynamic, "aviary: kernels for a device have sizes known at compile time");
  static constexpr int columns = Columns;
  static constexpr int lanes = lanes_of_column<K>;
  /// Fours of keys, and keys, of a lane.
  static constexpr int fours = static_cast<int>((K + 4 * lanes - 1) / (4 * lanes));
  static constexpr int keys = 4 * fours;
  static constexpr int numbers = keys * Columns;
  static constexpr int threads = (lanes * ((Width + Columns - 1) / Columns) + warp - 1) / warp * warp;

  /// A thread's numbers: those of key k and column c are s[k * Columns + c].
  using Numbers = T[to_size(numbers)];

  /// The first of the four keys number i of a thread, and its key number k.
  AVIARY_HOST_DEVICE static constexpr Index four(int thread, int i) noexcept {
    return (Index{i} * lanes + thread % lanes) * 4;
  }
  AVIARY_HOST_DEVICE static constexpr Index key(int thread, int k) noexcept { return four(thread, k / 4) + k % 4; }
  /// Its first column.
  AVIARY_HOST_DEVICE static constexpr Index column(int thread) noexcept { return Index{thread / lanes} * Columns; }

  /// Of each column there are `count` sums over the keys of a lane, which the lanes of a column add up: x(thread, i) with i = column
  /// count + number. Then a thread has those of its own columns, which for_own_columns gives, first of all; `gather` turns back.
  template <int count> using Parts = Scattering<Columns * count, lanes, count>;
  template <int count, class Block, class X>
  AVIARY_HOST_DEVICE static AVIARY_INLINE void sum_over_keys(Block& block, X&& x) {
    sum_and_scatter<Columns * count, lanes, count>(block, x);
  }
  template <int count, class Block, class X> AVIARY_HOST_DEVICE static AVIARY_INLINE void gather(Block& block, X&& x) {
    cuda::gather<Columns * count, lanes, count>(block, x);
  }
  /// f(n, column, there, chosen) for the own columns of a thread: it is number n of them; `there` says whether the state has it (else
  /// it is column 0), `chosen` whether the thread is the first among those who have the same. `first`: the block's first column.
  template <class F> AVIARY_HOST_DEVICE static AVIARY_INLINE void for_own_columns(int thread, Index first, F&& f) {
    constexpr int own = Parts<1>::count();
    detail::unroll<own>([&](auto n) {
      Index const in_block = column(thread) + Parts<1>::first(thread) + n, i = first + in_block;
      bool const there = in_block < Width && i < V;
      f(n, there ? i : Index{0}, there, there && Parts<1>::chosen(thread));
    });
  }

  /// sums[c rows + n] += sum over the keys of the thread of row(n) times column c.
  template <int rows, class RowOf>
  AVIARY_HOST_DEVICE static AVIARY_INLINE void dots(Numbers const& s, RowOf const& row, int thread, T* sums) noexcept {
    detail::unroll<fours>([&](auto i) {
      if (!in_row(thread, i)) return;
      detail::unroll<rows>([&](auto n) {
        Four<T> const x = load_four(row(n), thread, i);
        detail::unroll<4>([&](auto e) {
          detail::unroll<Columns>([&](auto c) {
            T& sum = sums[c * rows + n];
            sum = simd::Pack<T>::fma(s[(4 * i + e) * Columns + c], x.x[int(e)], sum);
          });
        });
      });
    });
  }

  /// s = s w + sum over n of weights[c rows + n] row(n): see detail::after_group. w: a row, or one number.
  template <Form form, int rows, class RowOf>
  AVIARY_HOST_DEVICE static AVIARY_INLINE void update(Numbers& s, [[maybe_unused]] T const* w, T const* weights,
                                                      RowOf const& row, int thread) noexcept {
    T scalar_w = T(0);
    if constexpr (form.gate == Gate::scalar) scalar_w = *w;
    detail::unroll<fours>([&](auto i) {
      if (!in_row(thread, i)) return;
      Four<T> decay{}, x[to_size(rows)];
      if constexpr (form.gate == Gate::vector) decay = load_four(w, thread, i);
      detail::unroll<rows>([&](auto n) { x[int(n)] = load_four(row(n), thread, i); });
      detail::unroll<4>([&](auto e) {
        detail::unroll<Columns>([&](auto c) {
          T& number = s[(4 * i + e) * Columns + c];
          number = detail::after_group<form, rows>(number, form.gate == Gate::vector ? decay.x[int(e)] : scalar_w,
                                                   weights + c * rows, [&](auto n) { return x[int(n)].x[int(e)]; });
        });
      });
    });
  }

  /// f(i, key, column, there) for each number i of a thread, in a state whose column `first` is the block's first one.
  template <class F> AVIARY_HOST_DEVICE static AVIARY_INLINE void for_numbers(Index first, int thread, F&& f) noexcept {
    detail::unroll<keys>([&](auto k) {
      detail::unroll<Columns>([&](auto c) {
        Index const in_block = column(thread) + c;
        f(k * Columns + c, key(thread, k), first + in_block,
          key(thread, k) < K && in_block < Width && first + in_block < V);
      });
    });
  }

 private:
  AVIARY_HOST_DEVICE static AVIARY_INLINE bool in_row(int thread, int i) noexcept {
    return keys * lanes <= Row || four(thread, i) < Row;
  }
  AVIARY_HOST_DEVICE static AVIARY_INLINE Four<T> load_four(T const* row, int thread, int i) noexcept {
    return *reinterpret_cast<Four<T> const*>(row + four(thread, i));
  }
};

/// @name The numbers of a thread, as Tile deals them out, from a State and to one, where the block's first column is `first`
///@{
template <class Tile, class T, class State>
AVIARY_HOST_DEVICE AVIARY_INLINE void load_state(T* s, State const& from, Index first, int thread) noexcept {
  Tile::for_numbers(first, thread, [&](int i, Index key, Index column, bool there) {
    s[i] = there ? static_cast<T>(widen(from.s[key][column])) : T(0);
  });
}
template <class Tile, class T, class State>
AVIARY_HOST_DEVICE AVIARY_INLINE void store_state(T const* s, State& to, Index first, int thread) noexcept {
  Tile::for_numbers(first, thread, [&](int i, Index key, Index column, bool there) {
    if (there) to.s[key][column] = narrow<std::remove_cvref_t<decltype(to.s[0][0])>>(s[i]);
  });
}
///@}

}  // namespace AVIARY_NAMESPACE::cuda
