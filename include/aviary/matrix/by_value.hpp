#pragma once
/// A state with one row for each value, its keys along the lanes: the transpose of a State. `backward` adds up over values what
/// lies along keys, which takes no sum across lanes here.
#include <algorithm>
#include <cstdint>

#include "aviary/matrix/group.hpp"
#include "aviary/matrix/state.hpp"

namespace AVIARY_NAMESPACE::detail {

/// Memory that is wanted soon, a few lines for each turn of the loops over values.
class Fetches {
 public:
  static constexpr Index lines = 4, bytes = lines * alignment;

  /// Adds memory that may lie anywhere. What is too much is left out.
  void add(void const* memory, Index size) noexcept {
    for (Index i = 0; i < size && n_ < most; i += bytes)
      at_[n_++] = reinterpret_cast<std::uintptr_t>(memory) + to_size(i);
  }
  /// All of it is to be fetched by so many loops.
  void share_out(Index loops) noexcept { each_ = (n_ + loops - 1) / loops; }
  /// body(i) for values [first, last).
  template <class Body> AVIARY_INLINE void over(Index first, Index last, Body&& body) noexcept {
    Index i = first;
    for (Index end = std::min(next_ + std::min(each_, (last - first) / lines), n_); next_ < end; ++next_)
      for (Index line = 0; line < lines; ++line, ++i) {
        body(i);
        simd::prefetch_far(at_[next_] + to_size(line * alignment));
      }
    for (; i < last; ++i) body(i);
  }

 private:
  static constexpr Index most = 192;
  Index n_ = 0, next_ = 0, each_ = 0;
  std::uintptr_t at_[to_size(most)];
};

/// Products of such a state with rows of numbers, in packs P. Rows lie `row` numbers apart, the rows of a state `stride`.
template <class P, class T, Index K> struct ByValue {
  using L = simd::Pack<P>;
  using Keys = Extent<K>;
  /// Sums that are kept in registers at once, and rows of numbers that share what is loaded.
  static constexpr int sums = L::registers >= 32 ? 16 : L::registers >= 16 ? 8 : 4;
  static constexpr int together = 4;

  /// Loops over values that weighted_sums and update make.
  template <int N> static constexpr Index loops_of_sums(Index keys) noexcept {
    constexpr int rows = sums >= 2 * N ? N : together;
    return N / rows * loops<rows>(keys);
  }
  template <int N> static constexpr Index loops_of_update(Index keys) noexcept { return loops<N>(keys); }

  /// to(i, j) = from(j, i): keys x values of any stored format become values [first, last) x keys, with zeros up to the end of
  /// a pack.
  template <class S, Index V>
  static AVIARY_NO_INLINE void read(StateView<S, K, V> from, T* to, Index stride, Index first, Index last) noexcept {
    constexpr Index n = L::lanes;
    Index const keys = from.keys();
    for (Index j = 0; j < keys; j += n)
      for (Index i = first; i < last; i += n) {
        P block[to_size(n)];
        AVIARY_UNROLL(16)
        for (Index m = 0; m < n; ++m) block[m] = j + m < keys ? simd::load<P>(from[j + m] + i) : P(T(0));
        simd::transpose(block);
        AVIARY_UNROLL(16)
        for (Index m = 0; m < n; ++m)
          if (i + m < last) L::store(to + (i + m) * stride + j, block[m]);
      }
  }
  /// The way back. Padding becomes zero.
  template <Index V>
  static AVIARY_NO_INLINE void write(T const* from, Index stride, StateView<T, K, V> to, Index first,
                                     Index last) noexcept {
    constexpr Index n = L::lanes;
    Index const keys = to.keys(), end = last == to.values() ? to.stride() : last;
    for (Index j = 0; j < keys; j += n)
      for (Index i = first; i < end; i += n) {
        P block[to_size(n)];
        for (Index m = 0; m < n; ++m) block[m] = i + m < last ? L::load(from + (i + m) * stride + j) : P(T(0));
        simd::transpose(block);
        for (Index m = 0; m < n; ++m)
          if (j + m < keys) L::store(to[j + m] + i, block[m]);
      }
  }

  /// to[m](i) = sum over j of rows[m](j) s(i, j), for N rows and values [first, last), with zeros up to the end of a pack. Blocks
  /// of the state are turned round, so that values lie along the lanes: sums across them would cost more.
  template <int N>
  static AVIARY_NO_INLINE void dots(T const* s, Index stride, Keys keys, Index first, Index last, T const* rows, T* to,
                                    Index row) noexcept {
    constexpr int n = static_cast<int>(L::lanes), at_once = L::registers >= 32 ? 8 : 4;
    if constexpr (N > at_once) {
      dots<at_once>(s, stride, keys, first, last, rows, to, row);
      dots<N - at_once>(s, stride, keys, first, last, rows + at_once * row, to + at_once * row, row);
    } else {
      for (Index i = first; i < last; i += n) {
        P sum[to_size(N)];
        unroll<N>([&](auto m) AVIARY_INLINE_LAMBDA { sum[int(m)] = P(T(0)); });
        for (Index j = 0; j < keys; j += n) {
          P block[to_size(n)];
          if (i + n <= last)
            unroll<n>([&](auto v) AVIARY_INLINE_LAMBDA { block[int(v)] = L::load(s + (i + v) * stride + j); });
          else
            for (int v = 0; v < n; ++v) block[v] = i + v < last ? L::load(s + (i + v) * stride + j) : P(T(0));
          simd::transpose(block);
          unroll<n>([&](auto k) AVIARY_INLINE_LAMBDA {
            unroll<N>([&](auto m) AVIARY_INLINE_LAMBDA {
              sum[int(m)] = L::fma(P(rows[m * row + j + k]), block[int(k)], sum[int(m)]);
            });
          });
        }
        unroll<N>([&](auto m) AVIARY_INLINE_LAMBDA { L::store(to + m * row + i, sum[int(m)]); });
      }
    }
  }

  /// to[m](j) = sum over i in [first, last) of weights[m](i) s(i, j), for N rows; with `more` it is added to what is there.
  template <int N>
  static void weighted_sums(T const* s, Index stride, Keys keys, Index first, Index last, T const* weights, Index row,
                            T* to, Index to_row, bool more, Fetches& fetches) noexcept {
    constexpr int rows = sums >= 2 * N ? N : together;
    static_assert(N % rows == 0);
    for (int m = 0; m < N; m += rows)
      block_of_sums<rows>(s, stride, keys, first, last, weights + m * row, row, to + m * to_row, to_row, more, fetches);
  }

  /// to(i, j) = s(i, j) w(j) + sum over m of weights[m](i) rows[m](j), for values [first, last); `to` may be s. With a constant
  /// decay w is its distance from 1. The products of s with the numbers of `other`, summed over values, go to `products`, unless
  /// that is null.
  template <Gate gate, bool constant_decay, int N>
  static AVIARY_NO_INLINE void update(T const* s, T* to, Index stride, Keys keys, Index first, Index last, T const* w,
                                      T const* weights, T const* rows, Index row, T const* other, T* products,
                                      bool more, Fetches& fetches) noexcept {
    simd::for_packs<P, K, packs_of<N>()>(0, keys, [&]<class Q>(Index j) AVIARY_INLINE_LAMBDA {
      using W = simd::Pack<Q>;
      Q row_of[to_size(N)];
      unroll<N>([&](auto m) AVIARY_INLINE_LAMBDA { row_of[int(m)] = W::load(rows + m * row + j); });
      [[maybe_unused]] Q decay(T(0));
      if constexpr (gate == Gate::vector) decay = W::load(w + j);
      if constexpr (gate == Gate::scalar) decay = Q(*w);
      auto const updated = [&](Index i) AVIARY_INLINE_LAMBDA {
        Q const from = W::load(s + i * stride + j);
        Q x = from;
        if constexpr (gate != Gate::none) x = constant_decay ? W::fma(x, decay, x) : x * decay;
        unroll<N>([&](auto m) AVIARY_INLINE_LAMBDA { x = W::fma(Q(weights[m * row + i]), row_of[int(m)], x); });
        W::store(to + i * stride + j, x);
        return from;
      };
      if (products == nullptr) {
        fetches.over(first, last, [&](Index i) AVIARY_INLINE_LAMBDA { updated(i); });
      } else {
        Q next(T(0));
        fetches.over(first, last, [&](Index i) AVIARY_INLINE_LAMBDA {
          next = W::fma(W::load(other + i * stride + j), updated(i), next);
        });
        W::store(products + j, more ? W::load(products + j) + next : next);
      }
    });
  }

 private:
  template <int rows> static constexpr Index loops(Index keys) noexcept {
    constexpr Index columns = simd::side_by_side<P, K, packs_of<rows>()>() * L::lanes;
    return (keys + columns - 1) / columns;
  }
  template <int rows> static constexpr int packs_of() noexcept { return sums / rows > 0 ? sums / rows : 1; }

  template <int N>
  static AVIARY_NO_INLINE void block_of_sums(T const* s, Index stride, Keys keys, Index first, Index last,
                                             T const* weights, Index row, T* to, Index to_row, bool more,
                                             Fetches& fetches) noexcept {
    simd::for_packs<P, K, packs_of<N>()>(0, keys, [&]<class Q>(Index j) AVIARY_INLINE_LAMBDA {
      using W = simd::Pack<Q>;
      Q sum[to_size(N)];
      unroll<N>([&](auto m) AVIARY_INLINE_LAMBDA { sum[int(m)] = Q(T(0)); });
      fetches.over(first, last, [&](Index i) AVIARY_INLINE_LAMBDA {
        Q const x = W::opaque(W::load(s + i * stride + j));  // loaded once: g++ would do so for every sum
        unroll<N>([&](auto m) AVIARY_INLINE_LAMBDA { sum[int(m)] = W::fma(Q(weights[m * row + i]), x, sum[int(m)]); });
      });
      unroll<N>([&](auto m) AVIARY_INLINE_LAMBDA {
        T* const at = to + m * to_row + j;
        W::store(at, more ? W::load(at) + sum[int(m)] : sum[int(m)]);
      });
    });
  }
};

}  // namespace AVIARY_NAMESPACE::detail
