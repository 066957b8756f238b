#pragma once
/// A run of tokens of one head, prepared on the stack: what the recurrence is run over while a state lies in first-level
/// cache.
#include "aviary/matrix/access.hpp"
#include "aviary/matrix/step.hpp"

namespace AVIARY_NAMESPACE::detail {

/// How large the scratch of memory M is.
template <class M> struct TileSizes {
  using T = typename M::T;
  static constexpr bool is_static = M::keys != dynamic && M::values != dynamic;
  AVIARY_HOST_DEVICE static constexpr Index row_of(Index keys, Index values) noexcept {
    return padded<typename M::StateNumber>(keys > values ? keys : values);
  }
  /// The length of a row of prepared numbers, known at compile time or not.
  static constexpr Index fixed_row = is_static ? row_of(M::keys, M::values) : dynamic;
  AVIARY_HOST_DEVICE static constexpr Extent<fixed_row> row(Index keys, Index values) noexcept {
    return row_of(keys, values);
  }

  using Token = Prepared<typename M::Rule, T, fixed_row>;
  template <class P> using Kernel = detail::Kernel<typename M::Rule, P, T, fixed_row>;

  static constexpr Index token_numbers =
      Token::length(is_static ? row_of(M::keys, M::values) : row_of(largest_head, largest_head));
  /// Of a tile: 16 KiB, beside 16 KiB of state (K = V = 64 in float) in first-level cache; one token at least.
  static constexpr Index tile_numbers =
      token_numbers > Index{16384 / sizeof(T)} ? token_numbers : Index{16384 / sizeof(T)};
  /// Tokens of a tile.
  static constexpr Index tokens(Index keys, Index values) noexcept {
    Index const fit = tile_numbers / Token::length(row(keys, values));
    return fit < 64 ? fit : 64;
  }
};

/// Up to TileSizes<M>::tokens(...) tokens of a head of memory M, with packs P.
template <class M, class P> class Tile {
  using T = typename M::T;
  using Kernel = typename M::template Kernel<P>;
  using Prepared = typename M::Prepared;

 public:
  /// Prepares tokens t ... t + n - 1 of x, a sequence with one head.
  Tile(typename M::Inputs const& x, Index t, Index n, Index keys, Index values) noexcept
      : row_(TileSizes<M>::row(keys, values)), keys_(keys), tokens_(n) {
    AVIARY_ASSERT(n > 0 && n <= TileSizes<M>::tokens(keys, values));
    for (Index i = 0; i < n; ++i)
      with_token<M>(x, t + i, [&](typename M::Token const& one) {
        token(i).bonus() = Kernel::prepare(one, token(i), keys_, Extent<M::values>(values));
      });
  }

  /// Runs columns [first, last) of a state, rows `stride` apart, through the tokens: value<Q>(i, m) is what token m writes
  /// into the lanes of Q from column i on, put(i, m, y) takes what it reads there.
  template <class S, class Value, class Put>
  void run(S* s, Index stride, Index first, Index last, Value&& value, Put&& put) noexcept {
    simd::for_packs<P, TileSizes<M>::fixed_row>(first, last, [&]<class Q>(Index i) {
      constexpr bool erases = R::erase != Erase::none;
      S* const column = s + i;
      Q z(T(0));
      if constexpr (erases) z = Kernel::template probe<Q>(column, stride, token(0).p(), keys_);
      Index m = 0;
      for (; m + 1 < tokens_; ++m)
        put(i, m,
            Kernel::template advance<Q, erases>(column, stride, token(m), value.template operator()<Q>(i, m), z, keys_,
                                                token(m + 1)));
      put(i, m,
          Kernel::template advance<Q, false>(column, stride, token(m), value.template operator()<Q>(i, m), z, keys_,
                                             token(m)));
    });
  }

  Prepared token(Index i) noexcept { return Prepared(numbers_ + i * Prepared::length(row_), row_); }

 private:
  using R = typename M::Rule;
  alignas(alignment) T numbers_[to_size(TileSizes<M>::tile_numbers)];
  [[no_unique_address]] Extent<TileSizes<M>::fixed_row> row_;
  [[no_unique_address]] Extent<M::keys> keys_;
  Index tokens_;
};

}  // namespace AVIARY_NAMESPACE::detail
