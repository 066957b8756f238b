#pragma once
/// A state with one row for each value, its keys along the lanes: the transpose of a State. `backward` adds up over values what
/// lies along keys, which takes no sum across lanes here.
#include <algorithm>

#include "aviary/matrix/group.hpp"
#include "aviary/matrix/state.hpp"

namespace AVIARY_NAMESPACE::detail {

/// Products of such a state with rows of numbers, in packs P. Rows lie `row` numbers apart, the rows of a state `stride`.
template <class P, class T, Index K> struct ByValue {
  using L = simd::Pack<P>;
  using Keys = Extent<K>;
  /// Sums that are kept in registers at once, and rows of numbers that share what is loaded.
  static constexpr int sums = L::registers >= 32 ? 16 : L::registers >= 16 ? 8 : 4;
  static constexpr int together = 4;

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

  /// to[m](i) = sum over j of rows[m](j) s(i, j), for N rows and values [first, last).
  template <int N>
  static void dots(T const* s, Index stride, Keys keys, Index first, Index last, T const* rows, T* to,
                   Index row) noexcept {
    static_assert(N % together == 0);
    constexpr Index values = sums / together;
    for (int m = 0; m < N; m += together) {
      Index i = first;
      for (; i + values <= last; i += values)
        block_of_dots<values>(s + i * stride, stride, keys, rows + m * row, to + m * row + i, row);
      for (; i < last; ++i) block_of_dots<1>(s + i * stride, stride, keys, rows + m * row, to + m * row + i, row);
    }
  }

  /// to[m](j) = sum over i in [first, last) of weights[m](i) s(i, j), for N rows; with `more` it is added to what is there.
  template <int N>
  static void weighted_sums(T const* s, Index stride, Keys keys, Index first, Index last, T const* weights, Index row,
                            T* to, Index to_row, bool more) noexcept {
    constexpr int rows = sums >= 2 * N ? N : together;
    static_assert(N % rows == 0);
    for (int m = 0; m < N; m += rows)
      block_of_sums<rows>(s, stride, keys, first, last, weights + m * row, row, to + m * to_row, to_row, more);
  }

  /// to(i, j) = s(i, j) w(j) + sum over m of weights[m](i) rows[m](j), for values [first, last); `to` may be s. With a constant
  /// decay w is its distance from 1. The products of what is written with the numbers of `other`, summed over values, go to
  /// `balance`, unless that is null.
  template <Gate gate, bool constant_decay, int N>
  static AVIARY_NO_INLINE void update(T const* s, T* to, Index stride, Keys keys, Index first, Index last, T const* w,
                                      T const* weights, T const* rows, Index row, T const* other, T* balance,
                                      bool more) noexcept {
    simd::for_packs<P, K, packs_of<N>()>(0, keys, [&]<class Q>(Index j) AVIARY_INLINE_LAMBDA {
      using W = simd::Pack<Q>;
      Q row_of[to_size(N)];
      unroll<N>([&](auto m) AVIARY_INLINE_LAMBDA { row_of[int(m)] = W::load(rows + m * row + j); });
      [[maybe_unused]] Q decay(T(0));
      if constexpr (gate == Gate::vector) decay = W::load(w + j);
      if constexpr (gate == Gate::scalar) decay = Q(*w);
      auto const updated = [&](Index i) AVIARY_INLINE_LAMBDA {
        Q x = W::load(s + i * stride + j);
        if constexpr (gate != Gate::none) x = constant_decay ? W::fma(x, decay, x) : x * decay;
        unroll<N>([&](auto m) AVIARY_INLINE_LAMBDA { x = W::fma(Q(weights[m * row + i]), row_of[int(m)], x); });
        W::store(to + i * stride + j, x);
        return x;
      };
      if (balance == nullptr) {
        for (Index i = first; i < last; ++i) updated(i);
      } else {
        Q sum = more ? W::load(balance + j) : Q(T(0)), next(T(0));
        for (Index i = first; i < last; ++i) next = W::fma(W::load(other + i * stride + j), updated(i), next);
        W::store(balance + j, more ? sum + next : next);
      }
    });
  }

 private:
  template <int rows> static constexpr int packs_of() noexcept { return sums / rows > 0 ? sums / rows : 1; }

  template <Index values>
  static AVIARY_NO_INLINE void block_of_dots(T const* s, Index stride, Keys keys, T const* rows, T* to,
                                             Index row) noexcept {
    constexpr int n = static_cast<int>(values) * together;
    P sum[to_size(n)];
    unroll<n>([&](auto m) AVIARY_INLINE_LAMBDA { sum[int(m)] = P(T(0)); });
    for (Index j = 0; j < keys; j += L::lanes) {
      P of_state[to_size(values)];
      unroll<values>([&](auto i) AVIARY_INLINE_LAMBDA { of_state[int(i)] = L::load(s + i * stride + j); });
      unroll<together>([&](auto m) AVIARY_INLINE_LAMBDA {
        P const x = L::load(rows + m * row + j);
        unroll<values>([&](auto i) AVIARY_INLINE_LAMBDA {
          constexpr int at = m * static_cast<int>(values) + i;
          sum[at] = L::fma(x, of_state[int(i)], sum[at]);
        });
      });
    }
    constexpr int room = (n + static_cast<int>(L::lanes) - 1) / static_cast<int>(L::lanes) * static_cast<int>(L::lanes);
    T numbers[to_size(room)];
    simd::sums<n>(sum, numbers);
    for (int m = 0; m < together; ++m) std::copy_n(numbers + m * values, values, to + m * row);
  }

  template <int N>
  static AVIARY_NO_INLINE void block_of_sums(T const* s, Index stride, Keys keys, Index first, Index last,
                                             T const* weights, Index row, T* to, Index to_row, bool more) noexcept {
    simd::for_packs<P, K, packs_of<N>()>(0, keys, [&]<class Q>(Index j) AVIARY_INLINE_LAMBDA {
      using W = simd::Pack<Q>;
      Q sum[to_size(N)];
      unroll<N>([&](auto m) AVIARY_INLINE_LAMBDA { sum[int(m)] = Q(T(0)); });
      for (Index i = first; i < last; ++i) {
        Q const x = W::load(s + i * stride + j);
        unroll<N>([&](auto m) AVIARY_INLINE_LAMBDA { sum[int(m)] = W::fma(Q(weights[m * row + i]), x, sum[int(m)]); });
      }
      unroll<N>([&](auto m) AVIARY_INLINE_LAMBDA {
        T* const at = to + m * to_row + j;
        W::store(at, more ? W::load(at) + sum[int(m)] : sum[int(m)]);
      });
    });
  }
};

}  // namespace AVIARY_NAMESPACE::detail
